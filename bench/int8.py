"""What int8 weights cost the default model: perplexity on ShareGPT text, the same tokens, size.

Both kinds of weights read the same texts, the first answers of conversations. For every token both
say how likely it was and which they think likeliest; then both answer ShareGPT prompts greedily.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from bus.messages import Sampling
from engine.backend import Backend, Weights
from engine.model_files import ModelFiles, default_cache_dir, open_model
from engine.opening import open_arithmetic
from engine.runner import Choice, Row
from engine.torch_runner import TorchRunner
from engine.weights_size import weights_bytes

from .equality import answered, prompts_of
from .progress import each
from .report import AtMost, Result
from .sharegpt import first_answers

PAGE_SIZE = 16
BACKENDS: dict[Weights, Backend] = {
    "float32": Backend(default_cache_dir()),
    "int8": Backend(default_cache_dir(), weights="int8"),
}


class Plan(Struct, frozen=True):
    num_texts: int = 40
    num_tokens: int = 256
    """Of each text; shorter ones are left out."""
    num_prompts: int = 30


class Read(Struct, frozen=True):
    """What the two think of one text, token by token."""

    losses: Tensor
    """Minus the logarithm of how likely each token was, ``[2, tokens - 1]``: float32, int8."""
    is_same: Tensor
    """Whether both think the same token likeliest."""
    divergences: Tensor
    """Kullback-Leibler, from float32 to int8, in nats."""


def run() -> Result:
    return measure(open_model(), Plan())


def measure(files: ModelFiles, plan: Plan) -> Result:
    runners = [_runner(files, weights, plan) for weights in BACKENDS]
    read = [_read(runners, text) for text in each(list(texts(files, plan)), "texts")]
    losses = torch.cat([one.losses for one in read], dim=1).mean(1)
    whole, rounded = losses.exp().tolist()
    prompts = prompts_of(files, plan.num_prompts)
    answers = [
        [answer.tokens for answer in answered(files, prompts, backend)]
        for backend in BACKENDS.values()
    ]
    begun_alike = [_alike(*pair) for pair in zip(*answers, strict=True)]
    pairs = list(zip(*answers, strict=True))
    sizes = [weights_bytes(files, b) for b in BACKENDS.values()]
    return Result(
        "int8",
        {
            "int8_perplexity_vs_float32": rounded / whole,
            "int8_weights_bytes_vs_float32": sizes[1] / sizes[0],
            "same_likeliest_token": float(torch.cat([one.is_same for one in read]).double().mean()),
            "equal_answers": sum(one == other for one, other in pairs) / len(pairs),
            "equal_tokens": sum(begun_alike) / sum(len(one) for one in answers[0]),
        },
        {
            "texts": len(read),
            "tokens": sum(len(one.is_same) for one in read),
            "float32_perplexity": whole,
            "int8_perplexity": rounded,
            "mean_divergence_nats": float(torch.cat([one.divergences for one in read]).mean()),
            "answers": len(pairs),
        },
        {"int8_perplexity_vs_float32": AtMost(1.01)},
    )


def _runner(files: ModelFiles, weights: Weights, plan: Plan) -> TorchRunner:
    shape = files.pool_shape(-(-plan.num_tokens // PAGE_SIZE), PAGE_SIZE, weights=weights)
    arithmetic = open_arithmetic(files.config, BACKENDS[weights])
    return TorchRunner(files, shape, arithmetic=arithmetic)


def texts(files: ModelFiles, plan: Plan) -> Iterator[list[int]]:
    texts = (files.tokenizer().encode(text) for text in first_answers(50 * plan.num_texts))
    long = (text[: plan.num_tokens] for text in texts if len(text) >= plan.num_tokens)
    return islice(long, plan.num_texts)


def _read(runners: list[TorchRunner], text: list[int]) -> Read:
    ids = np.array(text, np.int32)
    choices = tuple(Choice(Sampling(), ids[:end], len(ids)) for end in range(1, len(ids)))
    row = Row(ids[:-1], 0, np.arange(-(-len(ids) // PAGE_SIZE), dtype=np.int32), choices)
    whole, rounded = (runner.logits([row]) for runner in runners)
    following = torch.tensor(text[1:])
    logs = [log_softmax(logits, -1) for logits in (whole, rounded)]
    return Read(
        torch.stack([cross_entropy(some, following, reduction="none") for some in logs]),
        whole.argmax(-1) == rounded.argmax(-1),
        kl_div(logs[1], logs[0], reduction="none", log_target=True).sum(-1),
    )


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    differs = [a != b for a, b in zip(one, other, strict=False)]
    return [*differs, True].index(True)
