"""What clients of OpenAI's interface send.

A field that we do not know is refused, so that nobody believes in an option that does nothing.
Beyond OpenAI's there are those of our own protocol, under the names of `bus.public`.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from .errors import bad

T = TypeVar("T")


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

    @property
    def functions(self) -> list[dict[str, Any]]:
        """What can be called.

        Raises:
            HttpError: a tool has something else for a function.
        """
        functions = [tool.get("function", {}) for tool in self.tools or ()]
        for function in functions:
            if not isinstance(function, dict) or not isinstance(function.get("name", ""), str):
                raise bad("tools: a function is an object, and its name is a text", "tools")
        return functions


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
