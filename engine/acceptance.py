"""What an engine accepts: prompts that fit the model, sampling parameters that make sense."""

from __future__ import annotations

from math import inf

import numpy as np

from bus.messages import Sampling
from bus.tokens import Tokens

from .ranges import num_pages
from .refusal import Refusal
from .runner import Ids, ModelCard

MAX_LOGPROBS = 20
MAX_BIAS, MAX_BIASES = 100.0, 1024
MAX_CHOICES = 64
MAX_STOPS = 64
MAX_STOP_CHARS = 1024
MAX_STOP_TOKENS = 256
MAX_SEED = 2**64 - 1
MAX_GRAMMAR_CHARS = 2**16


def accept_prompt(prompt: Tokens, card: ModelCard) -> Ids:
    """The prompt's token ids, once it is sure that this model can have them.

    Raises:
        Refusal: ``bad_range`` for an empty prompt or an id outside the vocabulary; ``too_long``
            where there is no room for one more token in the context, or no pool of enough pages.
    """
    if len(prompt) == 0:
        raise Refusal("bad_range", "the prompt is empty: give at least one token")
    _check_length(len(prompt), card)
    ids = np.frombuffer(prompt.packed, "<i4").astype(np.int32)
    _check_ids(ids, card.vocab_size, "the prompt")
    return ids


def accept_adapter(adapter: str, card: ModelCard) -> None:
    """
    Raises:
        Refusal: ``bad_request``, with the list of those that are here.
    """
    if adapter and adapter not in card.adapters:
        known = ", ".join(card.adapters) or "none"
        raise Refusal("bad_request", f"no adapter {adapter!r} here; this engine has: {known}")


def accept_offset(offset: int, length: int) -> None:
    """An answer of ``offset`` tokens is the end of a prompt of ``length`` tokens.

    Raises:
        Refusal: ``bad_range``, unless ``0 <= offset < length``.
    """
    if not 0 <= offset < length:
        raise Refusal(
            "bad_range",
            f"offset={offset} with a prompt of {length} tokens: the prompt ends with the offset "
            f"tokens generated before, so give 0 <= offset < {length}",
        )


def accept_sampling(sampling: Sampling, card: ModelCard) -> None:
    """
    Raises:
        Refusal: ``bad_request``, naming the parameter, what was given and what is allowed.
    """
    only_prompt = sampling.echo or sampling.prompt_logprobs is not None
    _check_between("max_tokens", sampling.max_tokens, 0 if only_prompt else 1, inf)
    _check_between("min_tokens", sampling.min_tokens, 0, sampling.max_tokens)
    _check_between("n", sampling.n, 1, MAX_CHOICES)
    _check_between("temperature", sampling.temperature, 0.0, 1e6)
    _check_between("top_k", sampling.top_k, 0, inf)
    _check_between("top_p", sampling.top_p, 1e-9, 1.0)
    _check_between("min_p", sampling.min_p, 0.0, 1.0)
    _check_between("repetition_penalty", sampling.repetition_penalty, 1e-3, 1e3)
    _check_between("presence_penalty", sampling.presence_penalty, -2.0, 2.0)
    _check_between("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)
    _check_between("seed", sampling.seed, 0, MAX_SEED)
    _check_between("logprobs", sampling.logprobs or 0, 0, MAX_LOGPROBS)
    _check_between("prompt_logprobs", sampling.prompt_logprobs or 0, 0, MAX_LOGPROBS)
    _check_bias(sampling.logit_bias, card.vocab_size)
    _check_grammar(sampling)
    _check_stops(sampling.stop)
    _check_stop_tokens(sampling.stop_tokens, card.vocab_size)


def _check_length(length: int, card: ModelCard) -> None:
    if length >= card.max_context:
        raise Refusal(
            "too_long",
            f"the prompt has {length} tokens; {card.name} takes at most {card.max_context - 1}, "
            f"so that one can follow",
        )
    needed, shape = num_pages(length, card.shape.page_size), card.shape
    if needed > shape.num_pages:
        raise Refusal(
            "too_long",
            f"the prompt needs {needed} pages of {shape.page_size} tokens; "
            f"this engine has {shape.num_pages}",
        )


def _check_ids(ids: Ids, vocab_size: int, where: str) -> None:
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        index = int(outside.argmax())
        raise Refusal(
            "bad_range",
            f"token id {ids[index]} at index {index} of {where} is not in the vocabulary: "
            f"ids go from 0 to {vocab_size - 1}",
        )


def _check_between(name: str, given: float, least: float, most: float) -> None:
    if least <= given <= most:  # false for NaN, too
        return
    allowed = f"at least {least}" if most == inf else f"from {least} to {most}"
    raise Refusal("bad_request", f"{name}={given}: {name} is {allowed}")


def _check_stops(stops: tuple[str, ...]) -> None:
    if len(stops) > MAX_STOPS:
        raise Refusal("bad_request", f"{len(stops)} stop strings: at most {MAX_STOPS} are allowed")
    if any(not 0 < len(stop) <= MAX_STOP_CHARS for stop in stops):
        raise Refusal(
            "bad_request", f"a stop string is empty or longer than {MAX_STOP_CHARS} characters"
        )


def _check_grammar(sampling: Sampling) -> None:
    if sampling.grammar is None:
        return
    if sampling.min_tokens or sampling.ignore_eos:
        raise Refusal(
            "bad_request",
            "response_format with min_tokens or ignore_eos: the answer ends where its format does",
        )
    if len(sampling.grammar.text) > MAX_GRAMMAR_CHARS:
        raise Refusal(
            "bad_request",
            f"response_format has {len(sampling.grammar.text)} characters: "
            f"at most {MAX_GRAMMAR_CHARS} are allowed",
        )


def _check_bias(bias: tuple[tuple[int, float], ...], vocab_size: int) -> None:
    if len(bias) > MAX_BIASES or len({token for token, _ in bias}) < len(bias):
        raise Refusal(
            "bad_request", f"logit_bias: at most {MAX_BIASES} tokens are allowed, each once"
        )
    for token, amount in bias:
        if not 0 <= token < vocab_size:
            raise Refusal(
                "bad_request",
                f"logit_bias: token {token} is not in the vocabulary: ids go from 0 to "
                f"{vocab_size - 1}",
            )
        _check_between(f"logit_bias of token {token}", amount, -MAX_BIAS, MAX_BIAS)


def _check_stop_tokens(stop_tokens: tuple[int, ...], vocab_size: int) -> None:
    if len(stop_tokens) > MAX_STOP_TOKENS:
        raise Refusal(
            "bad_request", f"{len(stop_tokens)} stop tokens: at most {MAX_STOP_TOKENS} are allowed"
        )
    for token in stop_tokens:
        if not 0 <= token < vocab_size:
            raise Refusal(
                "bad_request",
                f"stop token {token} is not in the vocabulary: ids go from 0 to {vocab_size - 1}",
            )
