"""One grant of ours in each of its states, as values."""

from __future__ import annotations

from typing import Final, TypeAlias

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
    checked: bool = False
    """Whether what comes must have the right checksums."""


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


class Checking(Struct, frozen=True, eq=False):
    """Everything was written; the writer's sums are compared with ours."""

    offer: Offer
    writer: Writer
    sums: bytes


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
    checked: bool
    """Whether the lender wants to know the sums of what we read."""
    lane: str = ""
    """Known once everything is here."""


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


CORRUPT: Final = "what arrived is not what was sent: the checksums differ"
State: TypeAlias = Granted | Used | Fencing | Checking | Reads | Confirming | Withdrawing
TIMED = (Granted, Used, Fencing, Reads, Confirming)
