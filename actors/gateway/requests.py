"""The requests of ours that OpenAI's bodies ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bus.public import ChatMessage, GenerateRequest, JsonSchema, ToolCall

from .bodies import Called, ChatBody, Common, CompletionBody, Part, Said
from .errors import bad
from .forced import forced_call, response_format

MAX_CHAT_TOKENS = 1024
"""Of an answer to a chat that names no limit; OpenAI's own is the whole context."""
MAX_COMPLETION_TOKENS = 16
"""As OpenAI's."""
MAX_PROMPTS = 2048
"""Of one completion: each is a flow, and more of them than routers take would all be made first."""


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
    if kinds != {int} and len(given) > MAX_PROMPTS:
        raise bad(f"{len(given)} prompts; at most {MAX_PROMPTS} are allowed", "prompt")
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
    fields["response_format"] = response_format(body.response_format)
    forced = forced_call(body)
    if forced is not None:
        if fields["response_format"] is not None:
            raise bad("response_format and a tool_choice that forces a call", "tool_choice")
        fields["response_format"] = JsonSchema(forced)
    tools = () if body.tool_choice == "none" else body.tools or ()
    return GenerateRequest(messages=tuple(_messages(body.messages)), tools=tools, **fields)


def _messages(all_said: Sequence[Said]) -> Iterator[ChatMessage]:
    called: dict[str, str] = {}
    for said in all_said:
        called |= {call.id: call.function.name for call in said.tool_calls or () if call.id}
        yield _message(said, called)


def _message(said: Said, called: Mapping[str, str]) -> ChatMessage:
    """``called`` has the names of what was called before, by the call's id: some templates want the
    name with a result, which OpenAI's clients do not send."""
    role = "system" if said.role == "developer" else said.role
    calls = tuple(map(_call, said.tool_calls or ()))
    name = said.name or called.get(said.tool_call_id or "", "")
    tool = said.role == "tool"
    return ChatMessage(
        role, _text(said.content), calls, said.tool_call_id or "", name if tool else ""
    )


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
