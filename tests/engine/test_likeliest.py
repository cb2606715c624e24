"""The largest of many: those that a sort would put first, and their ties."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.likeliest import LEAST_GROUPS, largest


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 5 * LEAST_GROUPS), st.data())
def test_they_are_those_that_a_sort_would_put_first_and_their_ties(
    seed: int, size: int, data: st.DataObject
) -> None:
    """Of few different numbers, so that many are equal, or of many."""
    count = data.draw(st.integers(1, size + 2))
    variety = data.draw(st.sampled_from([3, 100, 10**6]))
    numbers = np.random.default_rng(seed).integers(0, variety, size).astype(np.float32)

    given = largest(numbers, count)

    least = np.sort(numbers)[::-1][min(count, size) - 1]
    assert given.tolist() == np.flatnonzero(numbers >= least).tolist()


def test_what_is_minus_infinity_is_found_only_where_nothing_else_is_left() -> None:
    numbers = np.full(3000, -np.inf, np.float32)
    numbers[[5, 2999]] = [1.0, 2.0]

    assert largest(numbers, 2).tolist() == [5, 2999]
    assert len(largest(numbers, 3)) == 3000
