from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.wire import GrantRefused
from kvtransport.grants import Grant, check, check_range, seal, unseal

from .shapes import shape

KEY = b"the fleet's secret"
NOW = 1_800_000_000.0
GRANT = Grant(
    engine="decode-1",
    epoch=7,
    serial=3,
    flow="f1",
    attempt=2,
    begin=8,
    end=21,
    pages=((4, 3), (9, 1)),
    shape=shape(),
    address=b"\x00address\xff",
    memory=b"key",
    lease_s=30.0,
    expires_at=NOW + 30,
)
SEALED = seal(GRANT, KEY)


def test_a_grant_comes_back_as_it_was() -> None:
    assert unseal(SEALED, KEY, NOW) == GRANT


@settings(max_examples=200)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_every_alteration_is_refused(position: int, flipped: int) -> None:
    altered = bytearray(SEALED)
    altered[position] ^= flipped

    with pytest.raises(GrantRefused) as refused:
        unseal(bytes(altered), KEY, NOW)

    assert refused.value.reason == "bad_message"


@settings(max_examples=50)
@given(st.integers(0, len(SEALED) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(GrantRefused) as refused:
        unseal(SEALED[:length], KEY, NOW)

    assert refused.value.reason == "bad_message"


@given(st.binary(max_size=200))
def test_bytes_from_nowhere_are_refused(noise: bytes) -> None:
    with pytest.raises(GrantRefused) as refused:
        unseal(noise, KEY, NOW)

    assert refused.value.reason == "bad_message"


def test_the_key_of_another_fleet_is_refused() -> None:
    with pytest.raises(GrantRefused, match="signature") as refused:
        unseal(SEALED, b"another secret", NOW)

    assert refused.value.reason == "bad_message"


def test_a_grant_is_good_until_it_expires_and_not_after() -> None:
    assert unseal(SEALED, KEY, NOW + 29.99) == GRANT

    with pytest.raises(GrantRefused, match="expired") as refused:
        unseal(SEALED, KEY, NOW + 30)

    assert refused.value.reason == "transfer_failed"


def test_a_signed_grant_of_another_make_is_refused() -> None:
    from kvtransport.grants import _VERSION, _sign

    body = msgspec.msgpack.encode({"engine": "x"})

    with pytest.raises(GrantRefused, match="cannot be read"):
        unseal(_VERSION + _sign(body, KEY) + body, KEY, NOW)


def test_a_foreign_layout_is_refused_with_what_differs() -> None:
    with pytest.raises(GrantRefused, match="page_bytes is 128 at the sender and 64 at") as refused:
        check(GRANT, shape(page_bytes=128), 8, 21)

    assert refused.value.reason == "incompatible"


@pytest.mark.parametrize(("begin", "end"), [(0, 21), (8, 20), (12, 21), (8, 22), (21, 8)])
def test_another_range_is_refused(begin: int, end: int) -> None:
    with pytest.raises(GrantRefused, match=r"\[8, 21\)") as refused:
        check(GRANT, shape(), begin, end)

    assert refused.value.reason == "bad_range"


@pytest.mark.parametrize("num_pages", [1, 99])
def test_of_a_pool_of_any_size_the_granted_range_is_accepted_and_no_other(num_pages: int) -> None:
    check(GRANT, shape(num_pages=num_pages), 8, 21)

    with pytest.raises(GrantRefused, match=r"\[8, 21\)"):
        check(GRANT, shape(num_pages=num_pages), 8, 20)


@pytest.mark.parametrize(
    ("begin", "end", "num_pages"), [(2, 8, 2), (8, 4, 0), (-4, 4, 2), (0, 5, 1), (0, 5, 3)]
)
def test_ranges_that_pages_cannot_hold_are_not_granted(
    begin: int, end: int, num_pages: int
) -> None:
    with pytest.raises(ValueError, match="tokens"):
        check_range(shape(), begin, end, num_pages)


def test_an_empty_range_takes_no_pages() -> None:
    check_range(shape(), 8, 8, 0)

    with pytest.raises(ValueError, match="take 0 pages: 1 were given"):
        check_range(shape(), 8, 8, 1)
