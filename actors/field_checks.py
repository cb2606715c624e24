"""What the fields of a request may be, in words for whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from bus.public import GenerateRequest
from bus.subjects import TOKEN

BOUNDS: tuple[tuple[str, float, float], ...] = (
    ("max_tokens", 0, 2**31),
    ("n", 1, 64),
    ("temperature", 0, 100),
    ("top_k", 0, 2**31),
    ("min_p", 0, 1),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("logprobs", 0, 20),
    ("prompt_logprobs", 0, 20),
    ("seed", -(2**63), 2**63 - 1),
    ("priority", -100, 100),
)
MAX_STOPS = 16
"""Stop strings of one request; each is looked for at every token."""
MAX_STOP_TOKENS = 256
MAX_BIAS, MAX_BIASES = 100.0, 1024
MAX_USER = 256


def complaints(asked: GenerateRequest, vocab_size: int) -> Iterator[str]:
    """What is wrong with each field, what was given and what is allowed; nothing where all is
    well. The prompt is not looked at."""
    yield from _outside_bounds(asked)
    yield from _lengths(asked)
    yield from _endings(asked)
    yield from _bias(asked, vocab_size)
    yield from _names(asked)


def _outside_bounds(asked: GenerateRequest) -> Iterator[str]:
    for name, low, high in BOUNDS:
        value = getattr(asked, name)
        if value is not None and not low <= value <= high:  # NaN is outside, too
            yield f"{name} is {value:g}; allowed is {low:g} to {high:g}"
    for name, most in (("top_p", 1), ("repetition_penalty", 10)):
        value = getattr(asked, name)
        if not 0 < value <= most:
            yield f"{name} is {value:g}; allowed is above 0, up to {most}"
    if asked.timeout_s is not None and not 0 < asked.timeout_s < inf:
        yield f"timeout_s is {asked.timeout_s:g}; give seconds above 0"


def _lengths(asked: GenerateRequest) -> Iterator[str]:
    if not 0 <= asked.min_tokens <= asked.max_tokens:
        yield f"min_tokens is {asked.min_tokens}; allowed is 0 to max_tokens, {asked.max_tokens}"
    if asked.n > 1 and not asked.max_tokens:
        yield f"n is {asked.n} with max_tokens 0: that is no answer, so leave n at 1"


def _endings(asked: GenerateRequest) -> Iterator[str]:
    stops = (asked.stop,) if isinstance(asked.stop, str) else asked.stop
    if len(stops) > MAX_STOPS:
        yield f"{len(stops)} stop strings; allowed are {MAX_STOPS}"
    if "" in stops:
        yield "a stop string is empty: it would stop at once"
    if len(asked.stop_tokens) > MAX_STOP_TOKENS:
        yield f"{len(asked.stop_tokens)} stop tokens; allowed are {MAX_STOP_TOKENS}"


def _bias(asked: GenerateRequest, vocab_size: int) -> Iterator[str]:
    if len(asked.logit_bias) > MAX_BIASES:
        yield f"logit_bias has {len(asked.logit_bias)} tokens; allowed are {MAX_BIASES}"
    for token, bias in asked.logit_bias.items():
        if not 0 <= token < vocab_size:
            yield f"logit_bias: token {token} is not in the vocabulary of {vocab_size}"
        if not -MAX_BIAS <= bias <= MAX_BIAS:
            allowed = f"{-MAX_BIAS:g} to {MAX_BIAS:g}"
            yield f"logit_bias of token {token} is {bias:g}; allowed is {allowed}"


def _names(asked: GenerateRequest) -> Iterator[str]:
    if len(asked.user) > MAX_USER:
        yield f"user has {len(asked.user)} characters; allowed are {MAX_USER}"
    for name in ("group", "engine"):
        given = getattr(asked, name)
        if given and not TOKEN.fullmatch(given):
            yield f"{name} {given[:80]!r}: use 1 to 64 letters, digits, '_' or '-'"
