"""One grant of ours in each of its states, as values."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from .effects import Name
from .layout import Offsets
from .protocol import Taken
from .transport import PeerId


class Offer(Struct, frozen=True, eq=False):
    """A grant as the one who made it remembers it."""

    name: Name
    serial: int
    begin: int
    end: int
    pages: Offsets
    num_bytes: int
    expires_at: float
    """Until then a writer may open it."""


class Writer(Struct, frozen=True):
    peer: PeerId
    transfer: int


class Granted(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float


class Used(Struct, frozen=True, eq=False):
    """Somebody writes."""

    offer: Offer
    expires_at: float
    writer: Writer


class Fencing(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float
    """When to ask again: the question or its answer may have been lost."""
    writer: Writer
    reason: str


class Reads(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float
    """When to give up, unless there is progress."""
    writer: Writer
    memory: bytes
    num_runs: int
    read_s: float
    told_at: float
    """When the lender last heard of us."""


class Confirming(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float
    """When to ask again."""
    writer: Writer
    taken: Taken


class Withdrawing(Struct, frozen=True, eq=False):
    offer: Offer
    writer: Writer
    reason: str


State: TypeAlias = Granted | Used | Fencing | Reads | Confirming | Withdrawing
TIMED = (Granted, Used, Fencing, Reads, Confirming)
