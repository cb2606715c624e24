"""The few likeliest tokens of many rows: those that a sort finds, whoever looks for them."""

from __future__ import annotations

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.messages import Sampling
from engine.drawing import draw
from engine.drawing_few import draw_each, sums_of
from engine.kernel_build import built
from engine.kernels import Kernels
from engine.likeliest import Numbers
from engine.shortlists import (
    LONGEST_WANTED,
    NOT_FINITE,
    TIES,
    TOO_MANY,
    Scores,
    Shortlisting,
    Shortlists,
    Wanted,
    shortlists,
)
from engine.survivors import survivors

from .arithmetics import CACHE, kernels

ALMOST_ONE = 1.0 - 2.0**-52
SIZES = st.one_of(st.integers(1, 1200), st.sampled_from([511, 512, 513, 4096, 5000]))
seeds = st.integers(0, 2**32)


def narrow() -> Kernels:
    """As a processor with vectors of half the width computes."""
    wide = "-mno-avx512f" if "avx512f" in Path("/proc/cpuinfo").read_text() else ""
    return Kernels(built(CACHE, compiler=f"cc {wide}"), 1)


@pytest.fixture(scope="module", params=["numpy", "kernel", "narrow kernel", "3 threads"])
def looking(request: pytest.FixtureRequest) -> Shortlisting:
    match request.param:
        case "numpy":
            return shortlists
        case "kernel":
            return kernels(1).shortlists
        case "3 threads":
            return kernels(3).shortlists
    return narrow().shortlists


def rows_of(seed: int, num: int, size: int, variety: int) -> Numbers:
    """Of few different numbers, so that many are equal, or of many; some of them minus infinity."""
    rng = np.random.default_rng(seed)
    numbers = ((rng.integers(0, variety, (num, size)) - variety / 2) / 7).astype(np.float32)
    numbers[rng.random((num, size)) < rng.random() ** 4] = -inf
    return numbers


def wanted_of(scores: Numbers, num: int) -> list[tuple[int, float]] | int:
    """As `Shortlists` say, by sorting."""
    finite = np.sort(scores[scores > -inf])[::-1]
    if len(finite) == 0:
        return NOT_FINITE
    least = finite[min(num, len(finite)) - 1]
    found = [(place, float(x)) for place, x in enumerate(scores) if x >= least]
    return TOO_MANY if len(found) > TIES * num else found


def listed(lists: Shortlists, place: int) -> list[tuple[int, float]] | int:
    count = int(lists.counts[place])
    if count <= 0:
        return count
    assert (lists.scores[place, count:] == -inf).all()
    assert (lists.tokens[place, count:] == 0).all()
    return list(
        zip(lists.tokens[place, :count].tolist(), lists.scores[place, :count].tolist(), strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(seeds, SIZES, st.lists(st.integers(1, LONGEST_WANTED), min_size=1, max_size=5), st.data())
def test_they_are_those_that_a_sort_puts_first_and_their_ties(
    looking: Shortlisting, seed: int, size: int, nums: list[int], data: st.DataObject
) -> None:
    rows = rows_of(seed, len(nums), size, data.draw(st.sampled_from([3, 100, 10**6])))

    found = looking(Scores(rows, {}), [Wanted(row, num) for row, num in enumerate(nums)])

    for place, num in enumerate(nums):
        assert listed(found, place) == wanted_of(rows[place], num)


def test_rows_that_have_changed_are_looked_at_as_they_are(looking: Shortlisting) -> None:
    rows = rows_of(1, 3, 700, 10**6)
    changed = {1: rows_of(2, 1, 700, 10**6)[0]}

    found = looking(Scores(rows, changed), [Wanted(2, 4), Wanted(1, 3)])

    assert [listed(found, place) for place in (0, 1)] == [
        wanted_of(rows[2], 4),
        wanted_of(changed[1], 3),
    ]


@pytest.mark.parametrize("size", [1, 513, 3000])
@pytest.mark.parametrize("bad", [nan, -nan, inf])
def test_of_a_row_with_a_bad_number_there_is_none_and_of_the_others_there_is(
    looking: Shortlisting, bad: float, size: int
) -> None:
    for place in {0, size // 2, size - 1}:
        rows = rows_of(3, 3, size, 10**6)
        rows[:, 0] = 1.0
        rows[1, place] = bad

        found = looking(Scores(rows, {}), [Wanted(row, 5) for row in range(3)])

        assert listed(found, 1) == NOT_FINITE
        assert [listed(found, row) for row in (0, 2)] == [wanted_of(rows[row], 5) for row in (0, 2)]


def test_a_row_that_allows_nothing_has_none(looking: Shortlisting) -> None:
    found = looking(Scores(np.full((1, 3000), -inf, np.float32), {}), [Wanted(0, 50)])

    assert listed(found, 0) == NOT_FINITE


def test_minus_zero_and_zero_are_equal(looking: Shortlisting) -> None:
    row = np.full((1, 3000), -1.0, np.float32)
    row[0, [7, 1033]] = [-0.0, 0.0]

    assert listed(looking(Scores(row, {}), [Wanted(0, 1)]), 0) == [(7, 0.0), (1033, 0.0)]


# --- drawing from them --------------------------------------------------------------------------


samplings = st.builds(
    Sampling,
    temperature=st.floats(0.05, 20.0),
    top_k=st.integers(1, LONGEST_WANTED),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.9999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 0.9)),
)


@settings(max_examples=100, deadline=None)
@given(seeds, st.lists(samplings, min_size=1, max_size=6))
def test_a_draw_from_few_is_that_from_all(seed: int, asked: list[Sampling]) -> None:
    """At random places, which are never so near the border of two tokens that rounding matters."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(LONGEST_WANTED + 1, 3000))
    rows = rng.normal(0.0, 3.0, (len(asked), size)).astype(np.float32)
    lists = shortlists(Scores(rows, {}), wanted_by(asked))
    fractions = rng.random(len(asked)).tolist()

    drawn = draw_each(lists, asked, fractions)

    assert drawn == [
        draw(survivors(row, sampling), fraction)
        for row, sampling, fraction in zip(rows, asked, fractions, strict=True)
    ]


@pytest.mark.parametrize("fraction", [0.0, ALMOST_ONE])
def test_what_is_not_in_the_nucleus_is_never_drawn(fraction: float) -> None:
    """Lists of different lengths, of which only the likeliest token counts."""
    rows = np.zeros((2, 300), np.float32)
    rows[:, 3:7], rows[:, 5] = 2.0, 40.0
    asked = [Sampling(temperature=1.0, top_k=top_k, top_p=0.9) for top_k in (1, 3)]

    assert draw_each(shortlists(Scores(rows, {}), wanted_by(asked)), asked, [fraction] * 2) == [
        5,
        5,
    ]


@settings(max_examples=60, deadline=None)
@given(seeds, st.lists(samplings, min_size=2, max_size=6))
def test_sums_have_the_same_bits_beside_longer_lists(seed: int, asked: list[Sampling]) -> None:
    """The borders between tokens, where a draw would jump, are those of each list alone."""
    rows = rows_of(seed, len(asked), 600, 10**6)
    rows[:, 0] = 9.0
    lists = shortlists(Scores(rows, {}), wanted_by(asked))

    together = sums_of(lists, asked)

    for place, sampling in enumerate(asked):
        [alone] = sums_of(lists.some([place]), [sampling])
        assert together[place, : len(alone)].tolist() == alone.tolist()
        assert (together[place, len(alone) :] == alone[-1]).all()


def wanted_by(samplings: list[Sampling]) -> list[Wanted]:
    return [Wanted(row, sampling.top_k) for row, sampling in enumerate(samplings)]
