"""The largest few of many numbers, found in a few passes, without sorting the many."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Numbers: TypeAlias = NDArray[np.floating[Any]]
Places: TypeAlias = NDArray[np.intp]

GROUPS_PER_WANTED = 4
"""More groups find fewer numbers that are not wanted, and have more maxima to sort."""
LEAST_GROUPS = 1024


def largest(numbers: Numbers, count: int) -> Places:
    """Where the ``count`` largest are, and all that equal the smallest of them, in order of place.

    Numbers are dealt into groups, and the ``count``-th largest of the groups' maxima bounds the
    wanted ones from below: so many numbers, one of each group, are at least as large.
    """
    assert count > 0
    if count >= len(numbers):
        return np.arange(len(numbers))
    found = np.flatnonzero(numbers >= _lower_bound(numbers, count))
    if len(found) == count:
        return found
    values = numbers[found]
    return found[np.flatnonzero(values >= _from_the_top(values, count))]


def _lower_bound(numbers: Numbers, count: int) -> Any:
    num_groups = max(LEAST_GROUPS, GROUPS_PER_WANTED * count)
    deep = len(numbers) // num_groups
    if deep < 2:
        return _from_the_top(numbers, count)
    dealt = numbers[: deep * num_groups].reshape(deep, num_groups)
    maxima = np.concatenate([dealt.max(0), numbers[deep * num_groups :]])
    return _from_the_top(maxima, count)


def _from_the_top(numbers: Numbers, count: int) -> Any:
    return np.partition(numbers, len(numbers) - count)[len(numbers) - count]
