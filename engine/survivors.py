"""Which tokens may be drawn, and how likely each is: temperature, min-p, top-k and top-p.

They are those of vLLM (``v1/sample``), in this order; each sees what the one before it left. Every
one of them keeps the tokens from some score on, so that ties with the last token that is kept are
kept, too, and nothing depends on the order of a sort.

What is exact is done over the whole vocabulary: maxima, comparisons. What rounds is done in float64
on the tokens that are left; where all are left, weights are float32, and added up in float64, since
a sum in float32 is off by more than a rare token weighs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bus.messages import Sampling

from .likeliest import Numbers, Places, largest

LIKELY_NUCLEI = (64, 1024)
"""So many tokens are looked at before the whole vocabulary is: they nearly always hold the
nucleus."""
BUCKET_BITS = 16
"""Of a weight that is a float32: weights of one bucket differ by less than one part in 128."""


class Survivors(NamedTuple):
    tokens: Places | None
    """In order; None: all tokens of the vocabulary."""
    weights: Numbers
    """Of each, in proportion to its probability; the likeliest token's is 1."""


def survivors(scores: Numbers, sampling: Sampling) -> Survivors:
    """Of float32 ``[vocab_size]`` scores, of which one is finite. ``temperature`` is not 0."""
    return _keep_top_p(_keep_likely(scores, sampling), sampling.top_p)


def _keep_likely(scores: Numbers, sampling: Sampling) -> Survivors:
    if 0 < sampling.top_k < len(scores):
        tokens = largest(scores, sampling.top_k)
        likely = scores[tokens]
        least = _least_score(float(likely.max()), sampling)
        return _few(tokens[likely >= least], scores, sampling)
    top = scores.max()
    if sampling.min_p > 0.0:
        tokens = np.flatnonzero(scores >= _least_score(float(top), sampling))
        return _few(tokens, scores, sampling)
    below = scores - top
    return Survivors(None, np.exp(np.divide(below, sampling.temperature, out=below), out=below))


def _least_score(top: float, sampling: Sampling) -> float:
    """That min-p keeps."""
    if sampling.min_p <= 0.0:
        return -math.inf
    return top + sampling.temperature * math.log(sampling.min_p)


def _few(tokens: Places, scores: Numbers, sampling: Sampling) -> Survivors:
    likely = scores[tokens].astype(np.float64)
    return Survivors(tokens, np.exp((likely - likely.max()) / sampling.temperature))


def _keep_top_p(given: Survivors, mass: float) -> Survivors:
    """Keep the most likely tokens that together reach a probability of ``mass``: the nucleus of
    Holtzman et al. (arXiv 1904.09751). The most likely token is always kept."""
    if mass >= 1.0:
        return given
    kept = np.flatnonzero(given.weights >= _least_weight(given.weights, mass))
    weights = given.weights[kept].astype(np.float64)
    return Survivors(kept if given.tokens is None else given.tokens[kept], weights)


def _least_weight(weights: Numbers, mass: float) -> float:
    """Of the nucleus."""
    wanted = mass * float(weights.sum(dtype=np.float64))
    for count in LIKELY_NUCLEI:
        few = weights if count >= len(weights) else weights[largest(weights, count)]
        found = _crossing(few, 0.0, wanted)
        if found is not None:
            return found
    return _least_of_many(weights, wanted)


def _least_of_many(weights: Numbers, wanted: float) -> float:
    """By the leading bits of the weights: only those of one bucket are sorted."""
    buckets = weights.astype(np.float32).view(np.uint32) >> (32 - BUCKET_BITS)
    sums = np.bincount(buckets, weights)[::-1]
    reached = np.flatnonzero(sums.cumsum() >= wanted)
    if len(reached) == 0:  # nearly all is wanted, and this order of adding rounds to less
        return float(weights.min())
    last = int(reached[0])
    bucket = len(sums) - 1 - last
    inside = weights[buckets == bucket]
    found = _crossing(inside, float(sums[:last].sum()), wanted)
    return float(inside.min()) if found is None else found


def _crossing(weights: Numbers, above: float, wanted: float) -> float | None:
    """The weight with which the sum from the largest on, after ``above``, reaches ``wanted``; None
    where it does not."""
    ordered = np.sort(weights)[::-1]
    reached = np.flatnonzero(above + ordered.cumsum(dtype=np.float64) >= wanted)
    return float(ordered[reached[0]]) if len(reached) else None
