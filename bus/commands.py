"""What a router tells an engine to do: imperatives, each with the one event that it ends in."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from .requests import Mailbox, Sampling
from .tokens import Tokens


class Command(Struct, frozen=True, tag=True):
    """An instruction to one engine. Every command ends in its own event or in `Refused`."""

    engine: str


class PrepRecv(Command, frozen=True):
    """Match ``prompt[:end]`` in the prefix cache, reserve pages for the rest, grant writing them.

    Ends in `Prepared`.
    """

    prompt: Tokens
    end: int | None = None


class RemoteSend(Command, frozen=True):
    """Have the KV of ``prompt[begin:end]``, matched or computed, and write it to the granted pages.

    Ends in `Sent`.
    """

    prompt: Tokens
    grant: bytes
    begin: int = 0
    end: int | None = None


class StartGenerate(Command, frozen=True):
    """Compute ``prompt[begin:]`` on top of what is here or is arriving, then decode.

    Tokens go straight to ``reply``, numbered from ``offset``. Ends in `Finished`, after `Started`.
    """

    prompt: Tokens
    begin: int
    sampling: Sampling
    reply: Mailbox
    offset: int = 0


class Commit(Command, frozen=True):
    """Keep a received context in the prefix cache without generating. Ends in `Committed`."""


class Suspend(Command, frozen=True):
    """Stop a running request after this step, keeping its pages. Ends in `Suspended`."""


class Release(Command, frozen=True):
    """Abort in any phase; pages are free once nobody can write them. Ends in `Released`."""


class Query(Command, frozen=True):
    """How much of this prompt is cached here, and how busy is the engine? Ends in `Matched`."""

    prompt: Tokens


AnyCommand: TypeAlias = PrepRecv | RemoteSend | StartGenerate | Commit | Suspend | Release | Query


class Order(Struct, frozen=True):
    """One command on the wire. (flow, attempt, verb) is its identity: a repeat changes nothing."""

    flow: str
    attempt: int
    router: str
    """Whose event subject hears how it ended."""
    command: AnyCommand
    epoch: int = 0
    """The engine incarnation that the router means; 0 means whichever is there."""
    priority: int = 0
    """Of the request that this is for. It travels here and not in the commands, so that every
    command of a flow has it and no strategy need know of it."""
    adapter: str = ""
    """Likewise: KV that was computed with an adapter is of no use without it."""


class Accepted(Struct, frozen=True, tag=True):
    """The immediate reply to an order: it will end in a `Report`."""
