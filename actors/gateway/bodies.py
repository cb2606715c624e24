"""What clients of OpenAI's interface send, and the request that we make of it.

A field that we do not know is refused, so that nobody believes in an option that does nothing.
Beyond OpenAI's there are those of our own protocol, under the names of `bus.public`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from bus.public import (
    ChatMessage,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    Regex,
    ResponseFormat,
    ToolCall,
)

from .errors import HttpError, bad

T = TypeVar("T")

MAX_CHAT_TOKENS = 1024
"""Of an answer to a chat that names no limit; OpenAI's own is the whole context."""
MAX_COMPLETION_TOKENS = 16
"""As OpenAI's."""


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """Of load generators. This and the next are heard, and mean nothing here: usage comes once."""
    include_obfuscation: bool | None = None


class Common(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What chats and completions share. None is the same as nothing."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    user: str | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop_tokens: tuple[int, ...] | None = None
    orchestration: str | None = None
    adapter: str | None = None
    timeout_s: float | None = None
    priority: int | None = None
    group: str | None = None

    metadata: dict[str, str] | None = None
    """This and the following are heard, and change no token."""
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionBody(Common, frozen=True, kw_only=True):
    prompt: str | tuple[int | str | tuple[int, ...], ...]
    """A text, tokens, or several of one of these."""
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None


class Part(Struct, frozen=True):
    type: str
    text: str = ""


class CalledFunction(Struct, frozen=True):
    name: str
    arguments: str = "{}"


class Called(Struct, frozen=True):
    function: CalledFunction
    id: str = ""
    type: str = "function"


class Said(Struct, frozen=True):
    """One message of a chat. What OpenAI's clients send back of an answer is heard, too."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | tuple[Part, ...] | None = None
    tool_calls: tuple[Called, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class ChatBody(Common, frozen=True, kw_only=True):
    messages: tuple[Said, ...]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None


def read(kind: type[T], payload: bytes) -> T:
    """The body.

    Raises:
        HttpError: it is not what it should be; the field is named.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise bad(f"the request is not readable: {error}", _param(str(error))) from None


def _param(message: str) -> str | None:
    """The field that msgspec complains of."""
    found = re.search(r"field `([^`]+)`|at `\$\.([^`]+)`", message)
    return (found[1] or found[2]) if found else None


# --- to requests --------------------------------------------------------------------------------

_SAME = (
    "n",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "user",
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "ignore_eos",
    "stop_tokens",
    "orchestration",
    "adapter",
    "timeout_s",
    "priority",
    "group",
)


def _shared(body: Common) -> dict[str, Any]:
    given = {name: getattr(body, name) for name in _SAME}
    given["temperature"] = 1.0 if body.temperature is None else body.temperature
    return {name: value for name, value in given.items() if value is not None}


def completion_requests(body: CompletionBody) -> list[GenerateRequest]:
    """One for each prompt.

    Raises:
        HttpError: it asks for what there is not.
    """
    if body.best_of not in (None, body.n or 1):
        raise bad("best_of is supported where it equals n", "best_of", "not_supported")
    fields = _shared(body)
    fields["max_tokens"] = MAX_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    fields["logprobs"], fields["echo"] = body.logprobs, bool(body.echo)
    if body.echo and body.logprobs is not None:
        fields["prompt_logprobs"] = body.logprobs
    return [GenerateRequest(prompt=prompt, **fields) for prompt in _prompts(body.prompt)]


def _prompts(given: str | tuple[Any, ...]) -> Sequence[str | tuple[int, ...]]:
    if isinstance(given, str):
        return [given]
    kinds = {type(entry) for entry in given}
    if len(kinds) != 1:
        raise bad("prompt is a text, token ids, or a list of one of these, not empty", "prompt")
    return [given] if kinds == {int} else given


def chat_request(body: ChatBody) -> GenerateRequest:
    """
    Raises:
        HttpError: it asks for what there is not.
    """
    fields = _shared(body)
    limit = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    fields["max_tokens"] = MAX_CHAT_TOKENS if limit is None else limit
    if body.logprobs:
        fields["logprobs"] = body.top_logprobs or 0
    elif body.top_logprobs is not None:
        raise bad("top_logprobs needs logprobs to be true", "top_logprobs")
    fields["response_format"] = _response_format(body.response_format)
    forced = forced_call(body)
    if forced is not None:
        if fields["response_format"] is not None:
            raise bad("response_format and a tool_choice that forces a call", "tool_choice")
        fields["response_format"] = JsonSchema(forced)
    tools = () if body.tool_choice == "none" else body.tools or ()
    messages = tuple(_message(said, body.messages) for said in body.messages)
    return GenerateRequest(messages=messages, tools=tools, **fields)


def _message(said: Said, all_said: Sequence[Said]) -> ChatMessage:
    role = "system" if said.role == "developer" else said.role
    calls = tuple(map(_call, said.tool_calls or ()))
    name = said.name or _called_name(said.tool_call_id, all_said)
    tool = said.role == "tool"
    return ChatMessage(
        role, _text(said.content), calls, said.tool_call_id or "", name if tool else ""
    )


def _called_name(call_id: str | None, all_said: Sequence[Said]) -> str:
    """Some templates want the name with a result, which OpenAI's clients do not send."""
    calls = (call for said in all_said for call in said.tool_calls or ())
    return next((c.function.name for c in calls if call_id and c.id == call_id), "")


def _text(content: str | tuple[Part, ...] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.type != "text":
            raise bad(f"content of type {part.type!r}: only text is", "messages", "not_supported")
    return "".join(part.text for part in content)


def _call(called: Called) -> ToolCall:
    function = called.function
    try:
        arguments = msgspec.json.decode(function.arguments or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise bad(f"arguments of {function.name}: {error}", "messages") from None
    return ToolCall(function.name, arguments, called.id)


def _response_format(given: Mapping[str, Any] | None) -> ResponseFormat | None:
    match given:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JsonObject()
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return JsonSchema(schema)
        case {"type": "regex", "pattern": str(pattern)}:
            return Regex(pattern)
    raise bad(
        "response_format is {'type': 'text'}, {'type': 'json_object'}, {'type': 'json_schema', "
        "'json_schema': {'schema': {...}}} or {'type': 'regex', 'pattern': '...'}",
        "response_format",
    )


def forced_call(body: ChatBody) -> dict[str, Any] | None:
    """The schema of the answer where it has to be a call of a tool.

    Raises:
        HttpError: of a tool that there is not.
    """
    match body.tool_choice:
        case None | "auto" | "none":
            return None
        case "required":
            wanted = None
        case {"type": "function", "function": {"name": str(wanted)}}:
            pass
        case _:
            raise bad("tool_choice is 'none', 'auto', 'required' or a function", "tool_choice")
    functions = [tool.get("function", {}) for tool in body.tools or ()]
    chosen = [f for f in functions if wanted in (None, f.get("name"))]
    if not chosen:
        raise bad(f"tool_choice: there is no tool {wanted or ''!r}", "tool_choice")
    return {"anyOf": [_call_schema(function) for function in chosen]}


def _call_schema(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "name": {"const": function.get("name", "")},
            "arguments": function.get("parameters") or {"type": "object"},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


__all__ = [
    "ChatBody",
    "Common",
    "CompletionBody",
    "HttpError",
    "chat_request",
    "completion_requests",
    "forced_call",
    "read",
]
