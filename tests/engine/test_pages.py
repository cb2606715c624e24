"""Pages are shared by reference, cached when nobody uses them, and evicted oldest leaf first."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.context import Context
from engine.pages import Pages
from engine.rank import Rank
from engine.runner import Ids

SIZE = 4


def ids(*numbers: int) -> Ids:
    return np.array(numbers, np.int32)


def computed(pages: Pages, tokens: Ids, serial: int = 0) -> Context:
    """A context all of whose tokens were computed on top of what was cached."""
    context = Context(pages, Rank.of(0, serial), tokens, len(tokens))
    context.match(len(tokens))
    context.grow(len(tokens))
    context.num_computed = len(tokens)
    context.publish(len(tokens))
    return context


def test_a_context_finds_the_full_pages_that_another_one_left() -> None:
    pages = Pages(16, SIZE)
    computed(pages, ids(*range(10))).drop()

    context = Context(pages, Rank.of(0, 1), ids(*range(9), 99), 10)
    context.match(10)

    assert context.num_computed == 8
    assert pages.num_cached == 0
    assert pages.num_in_use == 2


def test_what_comes_after_other_tokens_is_not_a_match() -> None:
    pages = Pages(16, SIZE)
    computed(pages, ids(1, 1, 1, 1, 5, 6, 7, 8)).drop()

    assert pages.match(ids(2, 2, 2, 2, 5, 6, 7, 8)) == []
    assert pages.match(ids(5, 6, 7, 8)) == []


def test_matching_changes_nothing() -> None:
    pages = Pages(2, SIZE)
    computed(pages, ids(1, 1, 1, 1)).drop()
    computed(pages, ids(2, 2, 2, 2)).drop()

    pages.match(ids(1, 1, 1, 1))
    pages.take(1)

    assert pages.match(ids(1, 1, 1, 1)) == []
    assert len(pages.match(ids(2, 2, 2, 2))) == 1


def test_the_least_recently_used_leaf_is_evicted_first_and_parents_last() -> None:
    pages = Pages(4, SIZE)
    old = ids(1, 1, 1, 1, 2, 2, 2, 2)
    computed(pages, old).drop()
    computed(pages, ids(3, 3, 3, 3)).drop()
    pages.take(1)

    pages.take(1)
    assert len(pages.match(old)) == 1
    pages.take(1)
    assert pages.match(old) == []
    assert len(pages.match(ids(3, 3, 3, 3))) == 1


def test_use_makes_young() -> None:
    pages = Pages(2, SIZE)
    computed(pages, ids(1, 1, 1, 1)).drop()
    computed(pages, ids(2, 2, 2, 2)).drop()
    computed(pages, ids(1, 1, 1, 1)).drop()

    pages.take(1)

    assert len(pages.match(ids(1, 1, 1, 1))) == 1
    assert pages.match(ids(2, 2, 2, 2)) == []


def test_who_computes_a_page_second_keeps_his_own_and_frees_it_in_the_end() -> None:
    pages = Pages(8, SIZE)
    first, second = (Context(pages, Rank.of(0, n), ids(*range(8)), 8) for n in range(2))
    for context in (first, second):
        context.grow(8)
        context.num_computed = 8
        context.publish(8)
    pages.check_integrity([*first.held(), *second.held()])
    shared = set(first.table.tolist()) & set(second.table.tolist())

    first.drop()
    second.drop()

    assert not shared
    assert (pages.num_free, pages.num_cached) == (6, 2)
    pages.check_integrity([])


def test_a_cached_page_stays_while_somebody_uses_what_comes_after_it() -> None:
    pages = Pages(3, SIZE)
    first, second = (
        Context(pages, Rank.of(0, 0), ids(*range(4)), 4),
        Context(pages, Rank.of(0, 1), ids(*range(8)), 8),
    )
    first.grow(4)
    second.grow(8)
    for context in (first, second):
        context.num_computed = context.num_tokens
        context.publish(8)

    first.drop()

    assert pages.num_available == 0, "the page of the first carries the second of the second"
    second.drop()
    assert pages.num_available == 3
    pages.check_integrity([])


def test_a_context_taken_over_keeps_only_what_may_be_written() -> None:
    """The last token is computed again, into a page that others must not see."""
    pages = Pages(8, SIZE)
    received = computed(pages, ids(*range(8)))

    context = Context(pages, Rank.of(0, 1), ids(*range(8)), 12)
    context.adopt(received, 7)

    assert context.num_computed == 4
    assert context.num_pages == 1
    assert pages.num_cached == 1
    pages.check_integrity([*context.held(), *received.held()])


def test_a_private_partial_page_is_taken_over_as_it_is() -> None:
    pages = Pages(8, SIZE)
    received = computed(pages, ids(*range(6)))

    context = Context(pages, Rank.of(0, 1), ids(*range(10)), 12)
    context.adopt(received, 9)

    assert context.num_computed == 6
    assert context.num_pages == 2
    assert pages.is_private(int(context.table[1]))
    assert not pages.is_private(int(context.table[0]))


def test_integrity_names_a_page_that_is_held_by_nobody() -> None:
    pages = Pages(4, SIZE)
    pages.take(1)

    with pytest.raises(AssertionError, match="wrong references"):
        pages.check_integrity([])


class Watched(bytes):
    """Packed tokens that count how many bytes of them were looked at."""

    num_read = 0

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        self.num_read += len(part)
        return part


def test_a_match_looks_at_each_token_once() -> None:
    pages, tokens = Pages(600, SIZE), ids(*range(2000))
    computed(pages, tokens).drop()
    watched = Watched(tokens.tobytes())

    class Told(np.ndarray[Any, np.dtype[np.int32]]):
        def tobytes(self, order: Any = "C") -> bytes:
            return watched

    path = pages.match(tokens.view(Told))

    assert len(path) == 2000 // SIZE
    assert watched.num_read == len(watched)


@settings(max_examples=50, deadline=None)
@given(st.integers(4, 24), st.randoms(use_true_random=False))
def test_any_use_keeps_every_page_in_one_place_and_matches_exact(
    num_pages: int, random: Random
) -> None:
    pages = Pages(num_pages, SIZE)
    content: dict[int, tuple[int, ...]] = {}
    live: list[Context] = []
    for serial in range(40):
        tokens = ids(*(random.choice([0, 0, 0, 1]) for _ in range(random.randrange(1, 20))))
        context = Context(pages, Rank.of(0, serial), tokens, len(tokens))
        context.match(len(tokens))
        for index, page in enumerate(context.table.tolist()):
            assert content[page] == tuple(tokens[: (index + 1) * SIZE].tolist())
        if context.missing(len(tokens)) > pages.num_available:
            context.drop()
        else:
            context.grow(len(tokens))
            for index, page in enumerate(context.table.tolist()):
                content[page] = tuple(tokens[: (index + 1) * SIZE].tolist())
            context.num_computed = len(tokens)
            context.publish(len(tokens))
            live.append(context)
        while live and random.random() < 0.5:
            live.pop(random.randrange(len(live))).drop()
        pages.check_integrity(page for c in live for page in c.held())
    for context in live:
        context.drop()
    assert pages.num_free + pages.num_cached == num_pages
