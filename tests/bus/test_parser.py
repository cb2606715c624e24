"""The quick parser hears exactly what nats-py's does, however the bytes are cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from bus.parser import QuickParser

Heard = tuple[int, bytes, bytes, bytes, bytes]


class Receiver:
    """Stands for nats-py's client; takes every other message at once, to see both ways."""

    def __init__(self, takes: bool = True) -> None:
        self.heard: list[Heard] = []
        self.pings = 0
        self._takes = takes

    def take(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> bool:
        if self._takes and sid % 2:
            self.heard.append((sid, subject, reply, data, headers))
            return True
        return False

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> None:
        self.heard.append((sid, subject, reply, data, headers or b""))

    async def _process_ping(self) -> None:
        self.pings += 1


def message(sid: int, reply: bytes, data: bytes, headers: bytes) -> bytes:
    fields = [b"HMSG" if headers else b"MSG", b"a.b", b"%d" % sid, *([reply] if reply else [])]
    sizes = [b"%d" % len(headers)] * bool(headers) + [b"%d" % (len(headers) + len(data))]
    return b" ".join([*fields, *sizes]) + b"\r\n" + headers + data + b"\r\n"


PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"\r\n", b"MSG a 1 3\r\n", b"PING\r\n"])
BLOCKS = st.sampled_from([b"", b"NATS/1.0\r\nA: b\r\n\r\n", b"NATS/1.0 503\r\n\r\n"])
MESSAGES = st.builds(
    message, st.integers(1, 9), st.sampled_from([b"", b"_INBOX.x"]), PAYLOADS, BLOCKS
)
STREAMS = st.lists(MESSAGES | st.sampled_from([b"PING\r\n", b"+OK\r\n"]), max_size=8).map(b"".join)


def parsed(parser: Parser, parts: list[bytes]) -> None:
    async def feed() -> None:
        for part in parts:
            await parser.parse(part)

    asyncio.run(feed())


@settings(max_examples=200, deadline=None)
@given(STREAMS, st.data())
def test_both_parsers_hear_the_same_however_the_bytes_are_cut(
    stream: bytes, draw: st.DataObject
) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    edges = [0, *cuts, len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]
    ours, theirs = Receiver(), Receiver()

    parsed(QuickParser(ours), parts)
    parsed(Parser(theirs), [stream])

    assert ours.heard == theirs.heard
    assert ours.pings == theirs.pings


def test_a_message_that_is_not_taken_goes_nats_pys_way() -> None:
    receiver = Receiver(takes=False)

    parsed(QuickParser(receiver), [message(1, b"", b"x", b"") + message(2, b"r", b"y", b"")])

    assert [heard[0] for heard in receiver.heard] == [1, 2]


@pytest.mark.parametrize("line", [b"MSG a one 1\r\nx\r\n", b"MSG a\r\n", b"HELLO\r\n"])
def test_what_no_server_says_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parsed(QuickParser(Receiver()), [line])


@pytest.mark.parametrize("sizes", [b"-9", b"-17", b"4 -4", b"9 4", b"-1 4"])
def test_sizes_that_cannot_be_are_left_to_nats_py(sizes: bytes) -> None:
    """It refuses them. Going back by 17 bytes would lead to the same line for ever."""
    verb = b"HMSG" if b" " in sizes else b"MSG"
    stream = verb + b" a.b 1 " + sizes + b"\r\nabcd\r\n"
    ours, theirs = Receiver(), Receiver()

    ends = [_end(QuickParser(ours), stream), _end(Parser(theirs), stream)]

    assert ends[0] == ends[1]
    assert ours.heard == theirs.heard


def _end(parser: Parser, stream: bytes) -> str:
    try:
        parsed(parser, [stream])
    except ProtocolError as error:
        return str(error)
    return "read"
