"""What sampling parameters do to one row of logits before a token is drawn.

Penalties and filters are those of vLLM (``v1/sample``), which are OpenAI's where OpenAI has them:
repetition over prompt and answer (Keskar et al., arXiv 1909.05858), presence and frequency over the
answer only. Order: bias, bans and grammar, penalties, temperature, min-p, top-k, top-p; each sees
what the one before it left. A token that is dropped has logit minus infinity. Ties with the last
token that is kept are kept too, so that nothing depends on the order of a sort.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bus.messages import Sampling

from .runner import Choice, Ids

DROPPED = -math.inf
LIKELY_NUCLEUS = 1024
"""Tokens that are sorted before the whole vocabulary is: they nearly always hold the nucleus."""


def limited(logits: Tensor, choice: Choice) -> Tensor:
    """``[vocab_size]`` with the user's bias, and without tokens that may not be chosen now."""
    bias = choice.sampling.logit_bias
    if bias:
        tokens = torch.tensor([token for token, _ in bias], device=logits.device)
        amounts = torch.tensor([amount for _, amount in bias]).to(logits)
        logits = logits.index_add(0, tokens, amounts)
    if choice.banned:
        tokens = torch.tensor(sorted(choice.banned), device=logits.device)
        logits = logits.index_fill(0, tokens, DROPPED)
    if choice.allowed is not None:
        bits = np.unpackbits(choice.allowed, count=len(logits), bitorder="little")
        logits = logits.masked_fill(torch.from_numpy(bits == 0).to(logits.device), DROPPED)
    return logits


def penalised(logits: Tensor, choice: Choice) -> Tensor:
    """``[vocab_size]`` with the penalties of tokens that are in the history."""
    sampling = choice.sampling
    if sampling.repetition_penalty != 1.0:
        logits = _repetition_penalised(logits, choice.history, sampling.repetition_penalty)
    if sampling.presence_penalty or sampling.frequency_penalty:
        logits = _answer_penalised(logits, choice.history[choice.num_prompt :], sampling)
    return logits


def _repetition_penalised(logits: Tensor, history: Ids, penalty: float) -> Tensor:
    tokens = torch.from_numpy(np.unique(history)).to(logits.device)
    seen = logits.index_select(0, tokens)
    lowered = torch.where(seen > 0, seen / penalty, seen * penalty)
    return logits.index_copy(0, tokens.long(), lowered)


def _answer_penalised(logits: Tensor, answer: Ids, sampling: Sampling) -> Tensor:
    tokens, counts = np.unique(answer, return_counts=True)
    penalties = sampling.presence_penalty + sampling.frequency_penalty * counts
    return logits.index_add(
        0,
        torch.from_numpy(tokens).to(logits.device),
        torch.from_numpy(penalties).to(logits),
        alpha=-1,
    )


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Keep tokens at least ``share`` as likely as the most likely one."""
    if share <= 0.0:
        return logits
    return _keep_from(logits, logits.max() + math.log(share))


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Keep the ``count`` most likely tokens; all where it is not positive."""
    if not 0 < count < len(logits):
        return logits
    return _keep_from(logits, logits.topk(count).values[-1])


def keep_top_p(logits: Tensor, mass: float) -> Tensor:
    """Keep the most likely tokens that together reach a probability of ``mass``: the nucleus of
    Holtzman et al. (arXiv 1904.09751). The most likely token is always kept."""
    if mass >= 1.0:
        return logits
    probabilities = logits.softmax(0)
    for count in (min(LIKELY_NUCLEUS, len(logits)), len(logits)):
        likeliest = probabilities.topk(count).values
        reached = likeliest.cumsum(0) >= mass
        if reached.any():
            last = likeliest[reached.int().argmax()]
            return logits.masked_fill(probabilities < last, DROPPED)
    return logits


def _keep_from(logits: Tensor, threshold: Tensor) -> Tensor:
    return logits.masked_fill(logits < threshold, DROPPED)
