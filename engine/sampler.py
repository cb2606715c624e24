"""Choose the next token of each row from its logits.

A row's token is a function of its own logits, parameters, seed and position, whatever else is in
the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bus.messages import Sampling

from .logit_filters import keep_min_p, keep_top_k, keep_top_p, limited, penalised
from .philox import uniform
from .runner import Choice, Sampled, wanted_logprobs

GREEDY_BELOW = 1e-5
"""Temperatures under this mean: take the most likely token (as in vLLM)."""


def choose(logits: Tensor, choices: Sequence[Choice]) -> list[Sampled]:
    """One token per row of ``[rows, vocab_size]`` float32 logits, in order.

    Log-probabilities are those of the raw distribution, before penalties, temperature and filters,
    and natural logarithms; they are computed where `Sampling.logprobs` asks for them.
    """
    if all(map(_is_plain, choices)):
        return [Sampled(token) for token in logits.argmax(-1).tolist()]
    return [_choose_one(row, choice) for row, choice in zip(logits, choices, strict=True)]


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
        and not _has_penalties(sampling)
    )


def _has_penalties(sampling: Sampling) -> bool:
    return (
        sampling.repetition_penalty != 1.0
        or sampling.presence_penalty != 0.0
        or sampling.frequency_penalty != 0.0
    )


def _choose_one(logits: Tensor, choice: Choice) -> Sampled:
    token = _token(logits, choice) if choice.given is None else choice.given
    count = wanted_logprobs(choice)
    return Sampled(token) if count is None else _with_logprobs(logits, token, count)


def _token(logits: Tensor, choice: Choice) -> int:
    sampling = choice.sampling
    scores = limited(logits, choice)
    scores = penalised(scores, choice) if _has_penalties(sampling) else scores
    if sampling.temperature < GREEDY_BELOW:
        return int(scores.argmax())
    # Float64: over a vocabulary, a sum in float32 is off by more than a rare token weighs.
    scores = scores.double() / sampling.temperature
    scores = keep_min_p(scores, sampling.min_p)
    scores = keep_top_k(scores, sampling.top_k)
    scores = keep_top_p(scores, sampling.top_p)
    return _draw(scores, uniform(sampling.seed, len(choice.history), choice.index))


def _draw(scores: Tensor, fraction: float) -> int:
    """The token at ``fraction`` of the way through the distribution, in the order of token ids.

    Ids rather than likelihoods set the order, because two nearly equal likelihoods may swap where
    logits differ in their last bit, and then the draw would jump.
    """
    sums = scores.softmax(0).cumsum(0)
    return int(torch.searchsorted(sums, sums[-1] * fraction, right=True))


def _with_logprobs(logits: Tensor, token: int, count: int) -> Sampled:
    logprobs = logits.log_softmax(0)
    top = logprobs.topk(min(count, len(logprobs)))
    pairs = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return Sampled(token, float(logprobs[token]), pairs)
