"""The few likeliest tokens of each of many rows, side by side.

Looking for them is all that is done with every score of a row whose top-k is small. What is done
with them then is done for all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .likeliest import Numbers, Places, largest

LONGEST_WANTED = 128
"""More are not few any longer."""
TIES = 2
"""So many tokens are on a list at most for each that is wanted: where more are equally likely, it
is none."""
NOT_FINITE, TOO_MANY = 0, -1
"""Counts of rows without a list: the largest score is not finite or one is NaN; there are too many
ties."""

NOTHING: Places = np.zeros(0, np.intp)


class Scores(NamedTuple):
    """Of each row, one for each token of the vocabulary."""

    logits: Numbers
    """``[rows, vocab_size]`` float32, as the model made them."""
    changed: Mapping[int, Numbers]
    """Rows that have others."""

    def of(self, row: int) -> Numbers:
        changed = self.changed.get(row)
        numbers: Numbers = self.logits[row] if changed is None else changed
        return numbers


class Shortlists(NamedTuple):
    """In order of tokens: the likeliest, as many as were wanted, and all that are as likely as the
    last of them; none that may not be chosen, whose score is minus infinity."""

    tokens: NDArray[np.int64]
    """``[lists, width]``; zeros where a list is shorter."""
    scores: NDArray[np.float32]
    """Theirs; minus infinity where a list is shorter."""
    counts: NDArray[np.int64]
    """How long each list is, or why there is none."""

    def some(self, which: Sequence[int]) -> Shortlists:
        """No wider than the longest of them."""
        chosen = np.array(which, np.intp)
        counts = self.counts[chosen]
        width = int(counts.max())
        return Shortlists(self.tokens[chosen, :width], self.scores[chosen, :width], counts)


class Wanted(NamedTuple):
    row: int
    num: int
    """1 to `LONGEST_WANTED`."""


Shortlisting: TypeAlias = Callable[[Scores, Sequence[Wanted]], Shortlists]
"""A list for each that is wanted. What is on it depends on that row alone."""


def shortlists(scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
    """See `Shortlisting`."""
    lists = empty(len(wanted), width_of(wanted))
    for place, (row, count) in enumerate(wanted):
        put(lists, place, scores.of(row), count)
    return lists


def width_of(wanted: Sequence[Wanted]) -> int:
    return TIES * max(one.num for one in wanted)


def empty(num_lists: int, width: int) -> Shortlists:
    return Shortlists(
        np.zeros((num_lists, width), np.int64),
        np.full((num_lists, width), -inf, np.float32),
        np.zeros(num_lists, np.int64),
    )


def put(lists: Shortlists, place: int, scores: Numbers, count: int) -> None:
    """The list of these ``[vocab_size]`` scores."""
    found = largest(scores, count) if isfinite(scores.max()) else NOTHING
    found = found[scores[found] > -inf]
    lists.counts[place] = len(found)
    if len(found) > TIES * count:
        lists.counts[place], found = TOO_MANY, NOTHING
    end = len(found)
    lists.tokens[place, :end], lists.scores[place, :end] = found, scores[found]
    lists.tokens[place, end:], lists.scores[place, end:] = 0, -inf
