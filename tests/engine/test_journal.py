"""What an engine says that its prefix cache has is what it has."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bus.prefixes import chain
from bus.tokens import Tokens
from engine.context import Context
from engine.journal import CacheChanges, Journal
from engine.pages import Pages
from engine.rank import Rank

SIZE = 2


def test_what_came_and_went_is_told_once_as_it_is_in_the_end() -> None:
    journal = Journal()
    for page_hash in (1, 2, 1):
        journal.stored(page_hash)
    journal.evicted(1)
    journal.evicted(3)
    journal.stored(3)

    assert journal.take() == CacheChanges((2, 3), (1,))
    assert journal.take() == CacheChanges()


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 1), max_size=8), st.booleans(), st.sampled_from(["", "a", "b"])
        ),
        max_size=20,
    )
)
def test_whoever_follows_the_changes_knows_what_is_cached(
    prompts: list[tuple[list[int], bool, str]],
) -> None:
    """The pool is small, so that pages are evicted all the time."""
    pages, known = Pages(6, SIZE), set[int]()
    for serial, (prompt, asks, adapter) in enumerate(prompts):
        ids = np.array(prompt, np.int32)
        context = Context(pages, Rank.of(0, serial), ids, len(ids), adapter)
        context.match(len(ids))
        context.grow(len(ids))
        context.num_computed = len(ids)
        context.publish(len(ids))
        context.drop()
        if asks:
            changes = pages.take_cache_changes()
            known = (known | set(changes.stored)) - set(changes.evicted)
            assert known == set(pages.cached_hashes())

    for prompt, _, adapter in prompts:
        found = pages.match(np.array(prompt, np.int32), adapter)
        hashes = chain(Tokens(prompt), SIZE, adapter)
        assert tuple(node.hash for node in found) == hashes[: len(found)]
