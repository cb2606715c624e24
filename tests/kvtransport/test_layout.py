from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.transfers import PoolShape
from kvtransport.fitting import differences
from kvtransport.layout import (
    PagesOutOfBounds,
    Runs,
    as_pages,
    check_pages,
    coalesce,
    compress,
    expand,
    num_pages_of,
)

from .shapes import shape

NUM_OURS, NUM_THEIRS = 24, 17
page_lists = st.lists(st.integers(0, NUM_THEIRS - 1), max_size=NUM_THEIRS, unique=True)


@st.composite
def copies(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Our pages, and as many distinct pages of theirs; both with runs among them."""
    theirs = draw(page_lists)
    start = draw(st.integers(0, NUM_OURS - NUM_THEIRS))
    follow = draw(st.booleans())
    ours = [start + i for i in range(len(theirs))] if follow else [p + start for p in theirs]
    return draw(st.permutations(ours)) if draw(st.booleans()) else ours, theirs


def pool(of: PoolShape, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, of.num_bytes, np.uint8)


@settings(max_examples=100)
@given(copies(), st.integers(0, 2), st.integers(1, 200))
def test_runs_put_every_byte_where_a_copy_page_by_page_does(
    copy: tuple[list[int], list[int]], layer: int, max_bytes: int
) -> None:
    ours, theirs = shape(NUM_OURS), shape(NUM_THEIRS)
    source, expected, landed = pool(ours, 1), pool(theirs, 2), pool(theirs, 2)

    for local, remote in zip(*copy, strict=True):
        begin = (layer * ours.num_pages + local) * ours.page_bytes
        target = (layer * theirs.num_pages + remote) * theirs.page_bytes
        expected[target : target + 64] = source[begin : begin + 64]
    runs = coalesce(ours, theirs, layer, as_pages(copy[0]), as_pages(copy[1])).split(max_bytes)
    for start, to, size in zip(runs.local, runs.remote, runs.num_bytes, strict=True):
        landed[to : to + size] = source[start : start + size]

    assert np.array_equal(landed, expected)
    assert runs.total_bytes() == 64 * len(copy[0])


@settings(max_examples=100)
@given(copies(), st.integers(0, 2))
def test_runs_are_as_few_as_there_can_be_and_inside_both_pools(
    copy: tuple[list[int], list[int]], layer: int
) -> None:
    ours, theirs = shape(NUM_OURS), shape(NUM_THEIRS)

    runs = coalesce(ours, theirs, layer, as_pages(copy[0]), as_pages(copy[1]))

    ends = [runs.local + runs.num_bytes, runs.remote + runs.num_bytes]
    joined = (ends[0][:-1] == runs.local[1:]) & (ends[1][:-1] == runs.remote[1:])
    assert not joined.any()
    assert (runs.num_bytes > 0).all()
    assert runs.reach()[0] <= ours.num_bytes
    assert runs.reach()[1] <= theirs.num_bytes


@settings(max_examples=50)
@given(copies(), st.integers(1, 200))
def test_split_runs_are_no_longer_than_asked(
    copy: tuple[list[int], list[int]], max_bytes: int
) -> None:
    runs = coalesce(shape(NUM_OURS), shape(NUM_THEIRS), 0, as_pages(copy[0]), as_pages(copy[1]))

    pieces = runs.split(max_bytes)

    assert (pieces.num_bytes <= max_bytes).all()
    assert (pieces.num_bytes > 0).all()


@settings(max_examples=100)
@given(st.lists(st.integers(0, 30), max_size=40))
def test_expanding_compressed_pages_gives_them_back(pages: list[int]) -> None:
    runs = compress(as_pages(pages))

    assert expand(runs).tolist() == pages
    assert all(b[0] != a[0] + a[1] for a, b in itertools.pairwise(runs))


def test_neighbours_are_one_run_and_order_is_kept() -> None:
    assert compress(as_pages([4, 5, 6, 9, 2])) == [(4, 3), (9, 1), (2, 1)]


def test_a_layer_of_adjacent_pages_is_one_run() -> None:
    local, remote = as_pages(range(3, 9)), as_pages(range(6, 12))

    runs = coalesce(shape(16), shape(32), 2, local, remote)

    assert len(runs) == 1
    assert (runs.local[0], runs.remote[0]) == ((2 * 16 + 3) * 64, (2 * 32 + 6) * 64)
    assert runs.num_bytes[0] == 6 * 64


@pytest.mark.parametrize("pages", [[-1], [3, -1]], ids=["alone", "one of two"])
def test_a_negative_offset_reaches_beyond_any_pool(pages: list[int]) -> None:
    runs = coalesce(shape(), shape(), 0, as_pages(pages), as_pages([0] * len(pages)))

    assert len(runs) == len(pages)
    assert min(runs.reach()) > shape().num_bytes


@given(st.integers(-5, 1000), st.integers(-5, 1000), st.integers(-5, 1000))
def test_a_single_run_is_measured_as_one_of_several(
    local: int, remote: int, num_bytes: int
) -> None:
    alone = Runs(*(np.array([n], np.int64) for n in (local, remote, num_bytes)))
    twice = Runs(*(np.array([n, n], np.int64) for n in (local, remote, num_bytes)))

    assert alone.reach() == twice.reach()
    assert 2 * alone.total_bytes() == twice.total_bytes()
    assert alone.only() == (local, remote, num_bytes)
    piece = twice.piece(1, 3, 2)
    assert piece.only() == (local + 3, remote + 3, 2)


def test_pages_outside_the_pool_are_refused() -> None:
    for pages in ([-1], [16], [3, 99]):
        with pytest.raises(PagesOutOfBounds, match="pages 0 to 15"):
            check_pages(shape(16), as_pages(pages))

    check_pages(shape(16), as_pages([0, 15]))
    check_pages(shape(16), as_pages([]))


@pytest.mark.parametrize(("end", "num_pages"), [(8, 0), (9, 1), (12, 1), (13, 2), (16, 2)])
def test_a_page_begun_is_a_page_needed(end: int, num_pages: int) -> None:
    assert num_pages_of(shape(), 8, end) == num_pages


def test_pools_that_differ_only_in_their_number_of_pages_are_alike() -> None:
    assert differences(shape(16), shape(99)) == []


@pytest.mark.parametrize(
    "changed", [{"num_layers": 4}, {"page_size": 8}, {"page_bytes": 128}, {"fingerprint": "x"}]
)
def test_any_other_difference_is_told(changed: dict[str, Any]) -> None:
    (told,) = differences(shape(), shape(**changed))

    assert next(iter(changed)) in told


def test_our_copy_of_page_numbers_is_not_the_callers() -> None:
    theirs = np.array([1, 2, 3])

    ours = as_pages(theirs)
    theirs[0] = 9

    assert ours.tolist() == [1, 2, 3]
