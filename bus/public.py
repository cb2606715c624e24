"""The public protocol: what any NATS client may publish, and the messages it reads back.

A request is one JSON or MessagePack object (told apart by the first byte) on
``ms.generate.<model>`` with a reply subject. Replies are `Welcome`, then `Echo` where it was asked
for, then `Delta`s, then exactly one terminal message: `Done` or `Rejected`. Where several answers
were asked for, each ends in a `ChoiceDone` before that. A JSON request is answered with one JSON
object per message; a MessagePack request with a `Batch`, an array of such objects, per message.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .messages import FinishReason, Reason, Usage


class ToolCall(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that an assistant called."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


class ChatMessage(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant."""
    tool_call_id: str = ""
    """Which call a ``tool`` answers."""
    name: str = ""
    """Of the function that a ``tool`` is the result of."""


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    """The answer is JSON of this schema."""

    schema: dict[str, Any]


class JsonObject(Struct, frozen=True, forbid_unknown_fields=True, tag="json_object"):
    """The answer is a JSON object."""


class Regex(Struct, frozen=True, forbid_unknown_fields=True, tag="regex"):
    """The whole answer matches this regular expression."""

    pattern: str


ResponseFormat: TypeAlias = JsonSchema | JsonObject | Regex


class GenerateRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of ``prompt`` (text or token ids) and ``messages`` (a chat) is required."""

    prompt: str | tuple[int, ...] | None = None
    messages: tuple[ChatMessage, ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    """Functions that a chat may call, as the model's template wants them: by convention OpenAI's
    ``{"type": "function", "function": {"name", "description", "parameters"}}``."""
    max_tokens: int = 128
    """0 generates nothing and only keeps the prompt's context, for strategies that can."""
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    logprobs: int | None = None
    n: int = 1
    min_tokens: int = 0
    ignore_eos: bool = False
    logit_bias: dict[int, float] = {}
    response_format: ResponseFormat | None = None
    echo: bool = False
    prompt_logprobs: int | None = None
    adapter: str = ""
    """One that the engines were started with; empty takes the model as it is."""
    orchestration: str | None = None
    """Which strategy serves this request; None takes the router's default."""
    timeout_s: float | None = None
    """Cancel the request when it is not finished after so long."""
    priority: int = 0
    """The larger goes first where requests wait, and its pages are taken last."""
    user: str = ""
    """Who asks, for taking turns where requests wait; empty is everybody who does not say."""
    group: str = ""
    """What it belongs to, such as a topic or a tenant, for strategies that place by it."""
    engine: str = ""
    """The engine to have it on, for strategies that can be told; empty leaves it to them."""
    tag: str = ""
    """Comes back in `Welcome` and `Rejected`, for clients with one mailbox for many requests."""


class Welcome(Struct, frozen=True, tag_field="type", tag="accepted"):
    """The request is in: ``flow`` is its id, for cancelling and tracing."""

    flow: str
    prompt_tokens: int
    tag: str = ""


class TokenLogprob(Struct, frozen=True, gc=False):
    """Natural logarithms of probabilities, of the chosen token and the likeliest ones."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Echo(Struct, frozen=True, tag_field="type", tag="prompt", omit_defaults=True):
    """The prompt as the model sees it, before the first `Delta`: with ``echo`` its text, with
    ``prompt_logprobs`` one entry for each token; nothing comes before the first, so it has none."""

    flow: str
    tokens: tuple[int, ...]
    text: str = ""
    logprobs: tuple[TokenLogprob | None, ...] = ()


class Delta(Struct, frozen=True, tag_field="type", tag="tokens", omit_defaults=True, gc=False):
    """New tokens. ``offset`` counts tokens from the start of the answer: a client that has seen
    ``offset + len(tokens)`` already drops the message. ``text`` never ends inside a character; it
    may lag behind the tokens while a character or a stop string is incomplete."""

    flow: str
    offset: int
    tokens: tuple[int, ...]
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    """Which answer, where several were asked for. Offsets are counted in each by itself."""


class ChoiceDone(Struct, frozen=True, tag_field="type", tag="choice"):
    """One of several answers is complete; ``offset`` is the number of tokens in it."""

    flow: str
    choice: int
    offset: int
    reason: FinishReason


class Done(Struct, frozen=True, tag_field="type", tag="finished"):
    """The terminal message. ``offset`` is the number of tokens in the whole answer, or in all
    answers; of several, ``reason`` is ``length`` where any was cut off."""

    flow: str
    offset: int
    reason: FinishReason
    usage: Usage = Usage()
    message: str = ""
    """Says what went wrong where the reason is ``error``."""


class Rejected(Struct, frozen=True, tag_field="type", tag="refused"):
    """The terminal message of a request that was never begun."""

    reason: Reason
    message: str
    tag: str = ""


Spoken: TypeAlias = Echo | Delta | ChoiceDone | Done
"""What an engine says to the user of a flow."""
Reply: TypeAlias = Welcome | Spoken | Rejected
Batch: TypeAlias = tuple[Reply, ...]
