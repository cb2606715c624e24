"""Draw a token from each of many shortlists, all at once.

What `engine.survivors` and `engine.drawing` do with one row of the whole vocabulary. Sums are made
one by one in the order of tokens, or of likelihoods, so that how much wider the longest list is
changes nothing: what is behind a list's end weighs zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bus.messages import Sampling

from .shortlists import Shortlists

Doubles: TypeAlias = NDArray[np.float64]


def draw_each(
    lists: Shortlists, samplings: Sequence[Sampling], fractions: Sequence[float]
) -> list[int]:
    """The token of each list at its fraction of the way through the distribution.

    Lists are not empty and temperatures not 0; each was made with its `Sampling.top_k`.
    """
    sums = sums_of(lists, samplings)
    passed = sums <= _column(fractions) * sums[:, -1:]
    chosen = lists.tokens[np.arange(len(sums)), passed.sum(1)]
    tokens: list[int] = chosen.tolist()
    return tokens


def sums_of(lists: Shortlists, samplings: Sequence[Sampling]) -> Doubles:
    """Of the weights of those that may be drawn, up to each token of a list."""
    weights = _weights(lists, samplings)
    if any(sampling.top_p < 1.0 for sampling in samplings):
        weights[weights < _least_of_nuclei(weights, samplings)] = 0.0
    return weights.cumsum(1)


def _weights(lists: Shortlists, samplings: Sequence[Sampling]) -> Doubles:
    """After temperature and min-p; the likeliest token's is 1."""
    below = lists.scores.astype(np.float64)
    top = below.max(1, keepdims=True)
    temperatures = _column([sampling.temperature for sampling in samplings])
    weights: Doubles = np.exp((below - top) / temperatures)
    if any(sampling.min_p > 0.0 for sampling in samplings):
        with np.errstate(divide="ignore"):
            logs = np.log(_column([sampling.min_p for sampling in samplings]))
        weights[lists.scores < (top + temperatures * logs).astype(np.float32)] = 0.0
    return weights


def _least_of_nuclei(weights: Doubles, samplings: Sequence[Sampling]) -> Doubles:
    """Of each row the weight with which the sum from the largest on reaches top-p of all."""
    masses = _column([sampling.top_p for sampling in samplings])
    ordered = np.sort(weights)[:, ::-1]
    sums = ordered.cumsum(1)
    reached = (sums >= masses * sums[:, -1:]).argmax(1)
    least: Doubles = ordered[np.arange(len(ordered)), reached][:, None]
    least[masses >= 1.0] = 0.0
    return least


def _column(numbers: Sequence[float]) -> Doubles:
    return np.array(numbers, np.float64)[:, None]
