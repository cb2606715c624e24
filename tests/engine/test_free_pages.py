"""Free pages are handed out in adjacent runs and come back together."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.free_pages import FreePages


def test_a_fresh_pool_gives_one_run() -> None:
    free = FreePages(100)

    assert free.take(40) == list(range(40))


def test_pages_that_follow_a_given_page_are_preferred() -> None:
    free = FreePages(20)
    taken = free.take(20)
    for page in (3, 4, 5, 12, 13, 14, 15):
        free.give(page)

    assert free.take(2, after=taken[11]) == [12, 13]
    assert free.take(1, after=2) == [3]


def test_a_large_request_is_not_served_from_crumbs() -> None:
    free = FreePages(64)
    free.take(64)
    for page in (*range(0, 32, 2), *range(40, 56)):
        free.give(page)

    assert free.take(16) == list(range(40, 56))


def test_a_small_request_leaves_the_large_run_whole() -> None:
    free = FreePages(64)
    free.take(64)
    for page in (7, *range(40, 56)):
        free.give(page)

    assert free.take(1) == [7]
    assert free.runs() == [(40, 56)]


def test_neighbours_grow_together_again_in_any_order() -> None:
    free = FreePages(9)
    free.take(9)

    for page in (4, 0, 8, 2, 6, 1, 3, 7, 5):
        free.give(page)

    assert free.runs() == [(0, 9)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.lists(st.tuples(st.integers(0, 20), st.randoms()), max_size=60))
def test_every_page_is_free_or_taken_and_runs_are_maximal(
    num_pages: int, moves: list[tuple[int, Random]]
) -> None:
    free, taken = FreePages(num_pages), set[int]()
    for count, random in moves:
        if random.random() < 0.5:
            got = free.take(min(count, len(free)), after=random.randrange(-1, num_pages + 1))
            assert not taken & set(got)
            assert len(set(got)) == len(got)
            taken |= set(got)
        else:
            for page in random.sample(sorted(taken), min(count, len(taken))):
                taken.remove(page)
                free.give(page)

        inside = {page for begin, end in free.runs() for page in range(begin, end)}
        assert inside == set(range(num_pages)) - taken
        assert all(a[1] < b[0] for a, b in zip(free.runs(), free.runs()[1:], strict=False))
        assert len(free) == len(inside)
