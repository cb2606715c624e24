"""What a request and the answer so far do to one row of logits before a token is chosen.

Bias, bans and grammar first, then penalties. These are vLLM's (``v1/sample``), which are OpenAI's
where OpenAI has them: repetition over prompt and answer (Keskar et al., arXiv 1909.05858), presence
and frequency over the answer only. A token that is dropped has logit minus infinity.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bus.messages import Sampling

from .runner import Choice, Ids

Logits: TypeAlias = NDArray[np.floating[Any]]

DROPPED = -math.inf


def has_filters(choice: Choice) -> bool:
    """`filtered` would change something."""
    return _is_limited(choice) or has_penalties(choice.sampling)


def filtered(logits: Logits, choice: Choice) -> Logits:
    """``[vocab_size]`` with all of it; the same memory where there is nothing to do."""
    scores = limited(logits, choice)
    return penalised(scores, choice) if has_penalties(choice.sampling) else scores


def limited(logits: Logits, choice: Choice) -> Logits:
    """``[vocab_size]`` with the user's bias, and without tokens that may not be chosen now."""
    if not _is_limited(choice):
        return logits
    bias = choice.sampling.logit_bias
    limited = logits.copy()
    if bias:
        limited[[token for token, _ in bias]] += np.array(
            [amount for _, amount in bias], limited.dtype
        )
    if choice.banned:
        limited[list(choice.banned)] = DROPPED
    if choice.allowed is not None:
        bits = np.unpackbits(choice.allowed, count=len(logits), bitorder="little")
        limited[bits == 0] = DROPPED
    return limited


def _is_limited(choice: Choice) -> bool:
    return bool(choice.sampling.logit_bias or choice.banned) or choice.allowed is not None


def has_penalties(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
    )


def penalised(logits: Logits, choice: Choice) -> Logits:
    """``[vocab_size]`` with the penalties of tokens that are in the history."""
    sampling, penalised = choice.sampling, logits.copy()
    if sampling.repetition_penalty != 1.0:
        seen = logits[choice.history]
        penalty = penalised.dtype.type(sampling.repetition_penalty)
        penalised[choice.history] = np.where(seen > 0, seen / penalty, seen * penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        answer: Ids = choice.history[choice.num_prompt :]
        tokens, counts = np.unique(answer, return_counts=True)
        amounts = sampling.presence_penalty + sampling.frequency_penalty * counts
        penalised[tokens] -= amounts.astype(penalised.dtype)
    return penalised
