"""Choose the next token of each row from its logits.

A row's token is a function of its own logits, parameters, seed and position, whatever else is in
the batch. Rows are looked at one by one, on the host: what is to be done with a row is a few passes
over its numbers and then work on few of them, where a library of tensors would spend its time on
calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .drawing import draw
from .likeliest import largest
from .logit_filters import Logits, filtered, has_penalties
from .philox import uniform
from .runner import Choice, Sampled, wanted_logprobs
from .survivors import survivors

GREEDY_BELOW = 1e-5
"""Temperatures under this mean: take the most likely token (as in vLLM)."""


def choose(logits: Tensor, choices: Sequence[Choice]) -> list[Sampled]:
    """One token per row of ``[rows, vocab_size]`` float32 logits, in order.

    Log-probabilities are those of the raw distribution, before penalties, temperature and filters,
    and natural logarithms; they are computed where `Sampling.logprobs` asks for them.
    """
    if logits.device.type != "cpu" and all(map(_is_plain, choices)):
        return [Sampled(token) for token in logits.argmax(-1).tolist()]
    rows: Logits = logits.cpu().numpy()
    return [_choose_one(row, choice) for row, choice in zip(rows, choices, strict=True)]


def _is_plain(choice: Choice) -> bool:
    """Nothing but the most likely token is wanted."""
    sampling = choice.sampling
    return (
        sampling.temperature < GREEDY_BELOW
        and wanted_logprobs(choice) is None
        and choice.given is None
        and not choice.banned
        and choice.allowed is None
        and not sampling.logit_bias
        and not has_penalties(sampling)
    )


def _choose_one(logits: Logits, choice: Choice) -> Sampled:
    token = _token(logits, choice) if choice.given is None else choice.given
    count = wanted_logprobs(choice)
    return Sampled(token) if count is None else _with_logprobs(logits, token, count)


def _token(logits: Logits, choice: Choice) -> int:
    sampling, scores = choice.sampling, filtered(logits, choice)
    if sampling.temperature < GREEDY_BELOW:
        return int(scores.argmax())
    fraction = uniform(sampling.seed, len(choice.history), choice.index)
    return draw(survivors(scores, sampling), fraction)


def _with_logprobs(logits: Logits, token: int, count: int) -> Sampled:
    """The likeliest first; of equal ones the token with the lower id."""
    highest = logits.max()
    mass = np.exp(logits - highest).sum(dtype=np.float64)
    whole = float(highest) + float(np.log(mass))
    pairs = sorted((-float(logits[t]), t) for t in largest(logits, count).tolist()) if count else []
    top = tuple((t, -lower - whole) for lower, t in pairs[:count])
    return Sampled(token, float(logits[token]) - whole, top)
