"""Chains of page hashes: equal as far as prompts are equal, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.prefixes import ROOT, chain, pack, page_hash, unpack
from bus.tokens import Tokens

TOKENS = st.lists(st.integers(0, 3), max_size=40)


@given(TOKENS, TOKENS, st.integers(1, 5))
def test_two_prompts_share_as_many_hashes_as_they_share_pages(
    one: list[int], two: list[int], size: int
) -> None:
    first, second = chain(Tokens(one), size), chain(Tokens(two), size)

    shared = 0
    while (shared + 1) * size <= min(len(one), len(two)) and (
        one[: (shared + 1) * size] == two[: (shared + 1) * size]
    ):
        shared += 1
    assert first[:shared] == second[:shared]
    assert not set(first[shared:]) & set(second[shared:])
    assert len(first) == len(one) // size


def test_a_chain_is_the_same_in_every_process() -> None:
    assert chain(Tokens(range(4)), 2) == (6051289116976100548, 4494011819999877692)


def test_a_page_after_another_page_is_another_page() -> None:
    assert page_hash(ROOT, b"abcd") != page_hash(1, b"abcd")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_hashes_travel_as_they_are(hashes: list[int]) -> None:
    assert unpack(pack(hashes)) == tuple(hashes)


def test_half_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="8 bytes each: 9 bytes"):
        unpack(b"123456789")
