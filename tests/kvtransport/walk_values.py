"""What the states of a walk are made of."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, TypeAlias

from msgspec import Struct

from bus.transfers import PoolShape
from kvtransport.effects import Flush, Get, Put, Sum
from kvtransport.layout import as_pages
from kvtransport.ledger import Ledger
from kvtransport.protocol import AnyProtocolMessage

from .walk_ledgers import key_of

R, S = 0, 1
ADDRESSES: Final = (b"R" * 16, b"S" * 16)
KEY: Final = b"the fleet's secret"
PAGES: Final = as_pages([0])
Name: TypeAlias = tuple[str, int]
Right: TypeAlias = tuple[int, int]
"""(epoch, serial) of a grant; also what a layer holds that was written with it."""
GARBAGE: Final = (0, 0)
LOSS: Final = "loss"
"""In a channel: the connection broke here."""
Make: TypeAlias = Callable[[int, int, PoolShape], Ledger]
"""The ledger of an engine, R or S, in this epoch of its life."""


class Violation(AssertionError):
    """The protocol let happen what must not."""


class Bound(Struct, frozen=True):
    """How far the walk goes."""

    faults: int
    grants: int = 2
    layers: int = 1
    checked: bool = False
    """Whether everything has checksums, and a fault may change what is in a page."""


class Job(Struct, frozen=True):
    kind: type[Put] | type[Get] | type[Flush] | type[Sum]
    number: int
    """Of the transfer, or of the grant that is read for."""
    reads: bool
    layer: int
    epoch: int
    """Of the memory that is written or read."""

    @property
    def transfer(self) -> int:
        """As the ledger numbers it."""
        return -self.number if self.reads else self.number


class Sending(Struct, frozen=True):
    """A transfer that has not ended, as the sender's engine remembers it."""

    name: Name
    serial: int
    """Of the transfer."""
    right: Right
    layers: int = 0
    """That were written; all of them also where the page was lent."""
    lent: bool = False
    closed: bool = False
    """Finished, lent or aborted."""


class Side(Struct):
    """An engine: its ledger, what it has been sent, and what it has still to write or read."""

    ledger: Ledger | None
    epoch: int = 1
    serial: int = 0
    """Of its last grant."""
    inbox: tuple[AnyProtocolMessage | str, ...] = ()
    late: tuple[AnyProtocolMessage, ...] = ()
    """Copies, or delayed: they come when they like, as long as the connection holds."""
    outbox: tuple[Job, ...] = ()
    under_way: tuple[Job, ...] = ()
    sums: tuple[Job, ...] = ()
    """To be made; they can be dropped until they are."""
    known: tuple[int, Hashable] | None = None
    """The ledger's key, and when it was made."""

    def key(self, now: int) -> Hashable:
        if self.ledger and (self.known is None or self.known[0] != now):
            self.known = now, key_of(self.ledger, now)
        return (
            self.known and self.known[1],
            self.epoch,
            self.serial,
            self.inbox,
            self.late,
            self.outbox,
            self.under_way,
            self.sums,
        )
