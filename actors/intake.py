"""From the bytes that a user published to a checked, tokenised request, or a refusal in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from bus.codec import Undecodable, decode_public
from bus.messages import Grammar, Mailbox, Reason, Request, Sampling
from bus.public import ChatMessage, GenerateRequest
from bus.tokens import Tokens
from engine.grammar import BadGrammar
from engine.model_errors import ChatTemplateError

from .answer_format import grammar_of
from .field_checks import complaints

FIRST_BINARY = b"\x80"
"""A MessagePack object begins with this byte or a later one; text begins with an earlier one."""


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]: ...

    def chat(self, messages: Sequence[ChatMessage]) -> list[int]: ...


class BadRequest(Exception):
    """What the user asked for cannot be done; the message says what would do."""

    def __init__(self, reason: Reason, message: str, tag: str = "") -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message, self.tag = message, tag


class Limits(Struct, frozen=True):
    """What the router takes on."""

    max_context: int
    vocab_size: int
    orchestrations: tuple[str, ...]


class Intake(Struct, frozen=True):
    """A request that may be served."""

    request: Request
    orchestration: str | None
    timeout_s: float | None
    tag: str
    user: str = ""


def read(payload: bytes) -> GenerateRequest:
    """The request as the user wrote it.

    Raises:
        BadRequest: the bytes are no request.
    """
    try:
        return decode_public(payload, GenerateRequest)
    except Undecodable as error:
        raise BadRequest("bad_message", f"the request is not readable: {error}") from None


def mailbox(payload: bytes, reply: str) -> Mailbox:
    """Answers are read the way the question was written; in doubt, as JSON, which people read."""
    return Mailbox(reply, "msgpack" if payload[:1] >= FIRST_BINARY else "json")


def admit(
    asked: GenerateRequest, reply: Mailbox, tokenizer: Tokenizer, limits: Limits, seed: int
) -> Intake:
    """Check every field and tokenise; ``seed`` serves where the user gave none.

    Raises:
        BadRequest: naming the field, what was given and what is allowed.
    """
    _check(asked, limits)
    prompt = _tokens(asked, tokenizer)
    _check_prompt(prompt, asked, limits)
    sampling = _sampling(asked, seed)
    request = Request(
        prompt,
        sampling,
        reply,
        asked.priority,
        asked.group,
        asked.engine,
        adapter=asked.adapter,
    )
    return Intake(request, asked.orchestration, asked.timeout_s, asked.tag, asked.user)


def _tokens(asked: GenerateRequest, tokenizer: Tokenizer) -> Tokens:
    if asked.messages is not None:
        return _chat(asked.messages, tokenizer, asked.tag)
    if isinstance(asked.prompt, str):
        return Tokens(tokenizer.encode(asked.prompt))
    try:
        return Tokens(asked.prompt or ())
    except ValueError as error:
        raise BadRequest("bad_request", f"prompt: {error}", asked.tag) from None


def _chat(messages: Sequence[ChatMessage], tokenizer: Tokenizer, tag: str) -> Tokens:
    try:
        return Tokens(tokenizer.chat(messages))
    except ChatTemplateError as error:
        raise BadRequest("bad_request", str(error), tag) from None


def _check_prompt(prompt: Tokens, asked: GenerateRequest, limits: Limits) -> None:
    if not prompt:
        raise BadRequest("bad_request", "the prompt is empty: give at least one token", asked.tag)
    if len(prompt) >= limits.max_context:
        raise BadRequest(
            "too_long",
            f"the prompt has {len(prompt)} tokens; this model takes at most "
            f"{limits.max_context - 1}, to leave room for an answer",
            asked.tag,
        )
    if max(prompt) >= limits.vocab_size:
        raise BadRequest(
            "bad_request",
            f"token id {max(prompt)} is not in the vocabulary of {limits.vocab_size}",
            asked.tag,
        )


def _sampling(asked: GenerateRequest, seed: int) -> Sampling:
    return Sampling(
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_k=asked.top_k,
        top_p=asked.top_p,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        seed=seed if asked.seed is None else asked.seed,
        stop=(asked.stop,) if isinstance(asked.stop, str) else asked.stop,
        stop_tokens=asked.stop_tokens,
        logprobs=asked.logprobs,
        n=asked.n,
        min_tokens=asked.min_tokens,
        ignore_eos=asked.ignore_eos,
        logit_bias=tuple(sorted(asked.logit_bias.items())),
        grammar=_grammar(asked),
        echo=asked.echo,
        prompt_logprobs=asked.prompt_logprobs,
    )


def _grammar(asked: GenerateRequest) -> Grammar | None:
    try:
        return grammar_of(asked)
    except BadGrammar as error:
        raise BadRequest("bad_request", f"response_format: {error}", asked.tag) from None


def _check(asked: GenerateRequest, limits: Limits) -> None:
    if (asked.prompt is None) == (asked.messages is None):
        why = "give either 'prompt' or 'messages', not both and not neither"
        raise BadRequest("bad_request", why, asked.tag)
    for complaint in complaints(asked, limits.vocab_size):
        raise BadRequest("bad_request", complaint, asked.tag)
    known = limits.orchestrations
    if asked.orchestration is not None and asked.orchestration not in known:
        why = f"no orchestration {asked.orchestration!r}; known are {', '.join(known)}"
        raise BadRequest("unknown_orchestration", why, asked.tag)
