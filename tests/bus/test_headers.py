"""Headers survive the way to bytes and back, and odd blocks are told from regular ones."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.headers import header_block, read_headers

NAMES = st.text(string.ascii_letters + string.digits + "-_!", min_size=1, max_size=12)
VALUES = st.text(string.printable.strip(), max_size=12)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_headers_are_read_as_they_were_written(headers: dict[str, str]) -> None:
    assert read_headers(header_block(headers)) == headers


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 100\r\nA: b\r\n\r\n", {"Status": "100", "A": "b"}),
        (b"NATS/1.0\r\nA:b\r\nB:  c \r\n\r\n", {"A": "b", "B": "c"}),
        (b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n", {"A": "2"}),
        (b"NATS/1.0\r\n\r\n", {}),
    ],
)
def test_what_a_broker_may_send_is_read(block: bytes, headers: dict[str, str]) -> None:
    assert read_headers(block) == headers


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"NATS/1.0",
        b"NATS/1.0\r\nA: b",
        b"HTTP/1.1\r\nA: b\r\n\r\n",
        b"NATS/1.0 \xff\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA B: c\r\n\r\n",
        b"NATS/1.0\r\n : c\r\n\r\n",
    ],
)
def test_an_odd_block_is_not_guessed_at(block: bytes) -> None:
    assert read_headers(block) is None
