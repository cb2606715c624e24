"""What has happened: at an engine, which says so to its router, or at the router itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from .fleet import Fleet
from .requests import Request
from .tokens import Tokens

Reason: TypeAlias = Literal[
    "bad_message",
    "bad_range",
    "bad_request",
    "busy",
    "corrupt",
    "incompatible",
    "internal",
    "no_engine",
    "no_such_flow",
    "not_supported",
    "out_of_order",
    "stale_attempt",
    "stale_epoch",
    "too_large",
    "too_long",
    "transfer_failed",
    "unknown_model",
    "unknown_orchestration",
]
"""Why a command or a request was refused. Closed, so that a strategy can match on it."""

FinishReason: TypeAlias = Literal["stop", "length", "cancelled", "error"]


# --- an engine's --------------------------------------------------------------------------------


class Usage(Struct, frozen=True):
    """What a finished request consumed, in tokens, and where its time went, in seconds."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed by the engine that generated: cached or received."""
    completion_tokens: int = 0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0


class Answer(Struct, frozen=True, tag=True):
    """How a command ended, or how far it got: the base of every event that an engine makes."""


class Prepared(Answer, frozen=True):
    """Pages are reserved. The first ``matched`` tokens are here already and need no sending."""

    grant: bytes
    matched: int


class Sent(Answer, frozen=True):
    """The KV arrived, acknowledged by the receiver.

    ``seconds`` runs from the first write to the acknowledgement; ``exposed_s`` is the part of it
    after the last layer was computed.
    """

    num_bytes: int
    seconds: float
    lane: str
    exposed_s: float = 0.0
    matched: int = 0
    """Tokens of the prompt that the sender had cached."""
    num_pages: int = 0
    num_runs: int = 0
    write_s: float = 0.0
    """Of ``seconds``, those in which bytes moved; the rest waited for the computation."""


class Started(Answer, frozen=True):
    """The first token was made."""

    matched: int
    """Prompt tokens that this engine did not have to compute."""


class Finished(Answer, frozen=True):
    reason: FinishReason
    usage: Usage


class Committed(Answer, frozen=True):
    num_tokens: int
    """Tokens of the prompt that are now in the prefix cache."""


class Suspended(Answer, frozen=True):
    num_tokens: int
    """Tokens, prompt included, whose KV is in this engine's pages."""
    answered: Tokens = Tokens()
    """The answer so far, which the user has been sent; the KV of its last token is not computed."""


class Released(Answer, frozen=True):
    pass


class Matched(Answer, frozen=True):
    matched: int
    load: int
    free_pages: int


class Refused(Answer, frozen=True):
    """The command was not carried out and left nothing behind. ``verb`` is the command's name."""

    verb: str
    reason: Reason
    message: str = ""


EngineEvent: TypeAlias = (
    Prepared | Sent | Started | Finished | Committed | Suspended | Released | Matched | Refused
)


class Report(Struct, frozen=True):
    """One engine event on the wire."""

    flow: str
    attempt: int
    engine: str
    epoch: int
    event: EngineEvent


class Followed(Struct, frozen=True, array_like=True, gc=False):
    """More of an answer, for the router that follows it: tokens from ``offset`` on."""

    flow: str
    offset: int
    tokens: Tokens
    choice: int = 0
    """Which of the request's answers."""


Progress: TypeAlias = tuple[Followed, ...]
"""What an engine tells one router of all its flows: on the wire, one message."""


# --- the router's own ---------------------------------------------------------------------------


class Submitted(Struct, frozen=True, tag=True):
    request: Request
    fleet: Fleet


class TimedOut(Struct, frozen=True, tag=True):
    """The state lasted longer than it may."""


class Cancelled(Struct, frozen=True, tag=True):
    pass


class EngineLost(Struct, frozen=True, tag=True):
    engine: str
    fleet: Fleet
    """Who is left."""
    answered: Tokens = Tokens()
    """The answer so far, as far as the router has heard; the user may have heard more."""


class Directed(Struct, frozen=True, tag=True):
    """An operator wants what is going on with this request to go on at another engine.

    It is a wish: a strategy that does not know how goes on where it is.
    """

    engine: str
    """One that is alive."""
    answered: Tokens = Tokens()
    """As in `EngineLost`."""


class Superseded(Struct, frozen=True, tag=True):
    """Another router or a newer attempt owns this flow now."""


RouterEvent: TypeAlias = Submitted | TimedOut | Cancelled | EngineLost | Directed | Superseded
Event: TypeAlias = EngineEvent | RouterEvent
