"""From a random number to a token: the inverse of the distribution function."""

from __future__ import annotations

import numpy as np

from .likeliest import Numbers
from .survivors import Survivors

BLOCK = 256
"""Weights that are first looked at by their sum, where there are many."""


def draw(given: Survivors, fraction: float) -> int:
    """The token at ``fraction`` of the way through the distribution, in the order of token ids.

    Ids rather than likelihoods set the order, because two nearly equal likelihoods may swap where
    logits differ in their last bit, and then the draw would jump.
    """
    assert 0.0 <= fraction < 1.0
    place = _place(given.weights, fraction)
    return place if given.tokens is None else int(given.tokens[place])


def _place(weights: Numbers, fraction: float) -> int:
    starts = np.arange(0, len(weights), BLOCK)
    sums = np.add.reduceat(weights, starts, dtype=np.float64).cumsum()
    target = float(sums[-1]) * fraction
    block = _passed(sums, target)
    before = float(sums[block - 1]) if block else 0.0
    begin = int(starts[block])
    inside = weights[begin : begin + BLOCK]
    place = _passed(inside.cumsum(dtype=np.float64), target - before)
    # Two orders of adding: what rounding puts behind the block's end is its last possible token.
    return begin + min(place, int(np.flatnonzero(inside)[-1]))


def _passed(sums: Numbers, target: float) -> int:
    return int(np.searchsorted(sums, target, side="right"))
