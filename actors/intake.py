"""From the bytes that a user published to a checked, tokenised request, or a refusal in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from bus.codec import Undecodable, decode_public, encode_json
from bus.messages import Grammar, Mailbox, Reason, Request, Sampling
from bus.public import ChatMessage, GenerateRequest, JsonObject, JsonSchema, Regex
from bus.subjects import TOKEN
from bus.tokens import Tokens
from engine.grammar import BadGrammar, check
from engine.model_errors import ChatTemplateError

FIRST_BINARY = b"\x80"
"""A MessagePack object begins with this byte or a later one; text begins with an earlier one."""


class Tokenizer(Protocol):
    def encode(self, text: str) -> list[int]: ...

    def chat(
        self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]: ...


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
        return _chat(asked, asked.messages, tokenizer)
    if isinstance(asked.prompt, str):
        return Tokens(tokenizer.encode(asked.prompt))
    try:
        return Tokens(asked.prompt or ())
    except ValueError as error:
        raise BadRequest("bad_request", f"prompt: {error}", asked.tag) from None


def _chat(asked: GenerateRequest, messages: Sequence[ChatMessage], tokenizer: Tokenizer) -> Tokens:
    try:
        return Tokens(tokenizer.chat(messages, asked.tools))
    except ChatTemplateError as error:
        raise BadRequest("bad_request", str(error), asked.tag) from None


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
    grammar = _as_grammar(asked)
    if grammar is None:
        return None
    if asked.min_tokens or asked.ignore_eos:
        why = "the answer ends where its format does"
        raise BadRequest(
            "bad_request", f"response_format with min_tokens or ignore_eos: {why}", asked.tag
        )
    if len(grammar.text) > MAX_GRAMMAR_CHARS:
        why = f"{len(grammar.text)} characters; allowed are {MAX_GRAMMAR_CHARS}"
        raise BadRequest("bad_request", f"response_format has {why}", asked.tag)
    try:
        check(grammar)
    except BadGrammar as error:
        raise BadRequest("bad_request", f"response_format: {error}", asked.tag) from None
    return grammar


def _as_grammar(asked: GenerateRequest) -> Grammar | None:
    match asked.response_format:
        case None:
            return None
        case JsonSchema(schema):
            return Grammar("json_schema", encode_json(schema).decode())
        case JsonObject():
            return Grammar("json_schema", '{"type": "object"}')
        case Regex(pattern):
            return Grammar("regex", pattern)


MAX_GRAMMAR_CHARS = 2**16

_BOUNDS: tuple[tuple[str, float, float], ...] = (
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


def _check(asked: GenerateRequest, limits: Limits) -> None:
    def refuse(message: str, reason: Reason = "bad_request") -> BadRequest:
        return BadRequest(reason, message, asked.tag)

    if (asked.prompt is None) == (asked.messages is None):
        raise refuse("give either 'prompt' or 'messages', not both and not neither")
    if asked.tools and asked.messages is None:
        raise refuse("tools are for a chat: give 'messages'")
    for name, low, high in _BOUNDS:
        value = getattr(asked, name)
        if value is not None and not low <= value <= high:
            raise refuse(f"{name} is {value:g}; allowed is {low:g} to {high:g}")
    if not 0 <= asked.min_tokens <= asked.max_tokens:
        raise refuse(
            f"min_tokens is {asked.min_tokens}; allowed is 0 to max_tokens, {asked.max_tokens}"
        )
    if asked.n > 1 and not asked.max_tokens:
        raise refuse(f"n is {asked.n} with max_tokens 0: that is no answer, so leave n at 1")
    if len(asked.stop_tokens) > MAX_STOP_TOKENS:
        raise refuse(f"{len(asked.stop_tokens)} stop tokens; allowed are {MAX_STOP_TOKENS}")
    if len(asked.logit_bias) > MAX_BIASES:
        raise refuse(f"logit_bias has {len(asked.logit_bias)} tokens; allowed are {MAX_BIASES}")
    for token, bias in asked.logit_bias.items():
        if not 0 <= token < limits.vocab_size:
            raise refuse(
                f"logit_bias: token {token} is not in the vocabulary of {limits.vocab_size}"
            )
        if not -MAX_BIAS <= bias <= MAX_BIAS:
            raise refuse(
                f"logit_bias of token {token} is {bias:g}; allowed is {-MAX_BIAS:g} to {MAX_BIAS:g}"
            )
    if not 0 < asked.top_p <= 1:
        raise refuse(f"top_p is {asked.top_p:g}; allowed is above 0, up to 1")
    if not 0 < asked.repetition_penalty <= 10:
        raise refuse(
            f"repetition_penalty is {asked.repetition_penalty:g}; allowed is above 0, up to 10"
        )
    if asked.timeout_s is not None and not 0 < asked.timeout_s < float("inf"):
        raise refuse(f"timeout_s is {asked.timeout_s:g}; give seconds above 0")
    if not isinstance(asked.stop, str) and len(asked.stop) > MAX_STOPS:
        raise refuse(f"{len(asked.stop)} stop strings; allowed are {MAX_STOPS}")
    if "" in ((asked.stop,) if isinstance(asked.stop, str) else asked.stop) and asked.stop != ():
        raise refuse("a stop string is empty: it would stop at once")
    if len(asked.user) > MAX_USER:
        raise refuse(f"user has {len(asked.user)} characters; allowed are {MAX_USER}")
    for name in ("group", "engine"):
        given = getattr(asked, name)
        if given and not TOKEN.fullmatch(given):
            raise refuse(f"{name} {given[:80]!r}: use 1 to 64 letters, digits, '_' or '-'")
    known = limits.orchestrations
    if asked.orchestration is not None and asked.orchestration not in known:
        raise refuse(
            f"no orchestration {asked.orchestration!r}; known are {', '.join(known)}",
            "unknown_orchestration",
        )
