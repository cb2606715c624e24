"""What the actors say to each other: commands go to one engine, events come back.

A command is an imperative, an event is a past participle. Both are frozen values; on the wire a
command travels in an `Order` and an engine's event in a `Report`, which carry the flow and attempt
they belong to. Ranges of tokens are half-open ``[begin, end)`` with Python's negative indices;
``end=None`` means the whole prompt.

This is the vocabulary's one door; behind it are `requests`, `commands`, `events` and `beats`.
"""

from __future__ import annotations

from .beats import (
    Beat,
    CacheChanged,
)
from .commands import (
    Accepted,
    AnyCommand,
    Command,
    Commit,
    Order,
    PrepRecv,
    Query,
    Release,
    RemoteSend,
    StartGenerate,
    Suspend,
)
from .events import (
    Answer,
    Cancelled,
    Committed,
    Directed,
    EngineEvent,
    EngineLost,
    Event,
    Finished,
    FinishReason,
    Followed,
    Matched,
    Prepared,
    Progress,
    Reason,
    Refused,
    Released,
    Report,
    RouterEvent,
    Sent,
    Started,
    Submitted,
    Superseded,
    Suspended,
    TimedOut,
    Usage,
)
from .requests import (
    Grammar,
    Mailbox,
    Request,
    Sampling,
)

__all__ = [
    "Accepted",
    "Answer",
    "AnyCommand",
    "Beat",
    "CacheChanged",
    "Cancelled",
    "Command",
    "Commit",
    "Committed",
    "Directed",
    "EngineEvent",
    "EngineLost",
    "Event",
    "FinishReason",
    "Finished",
    "Followed",
    "Grammar",
    "Mailbox",
    "Matched",
    "Order",
    "PrepRecv",
    "Prepared",
    "Progress",
    "Query",
    "Reason",
    "Refused",
    "Release",
    "Released",
    "RemoteSend",
    "Report",
    "Request",
    "RouterEvent",
    "Sampling",
    "Sent",
    "StartGenerate",
    "Started",
    "Submitted",
    "Superseded",
    "Suspend",
    "Suspended",
    "TimedOut",
    "Usage",
]
