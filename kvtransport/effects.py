"""What the ledger wants done. The courier carries effects out in the order they were returned."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bus.transfers import TransferEvent

from .layout import Runs
from .protocol import AnyProtocolMessage
from .transport import PeerId

Name: TypeAlias = tuple[str, int]
"""(flow, attempt)."""


class Connect(Struct, frozen=True):
    """Have a connection to this address. Where there is no way, the ledger hears `lost`."""

    address: bytes


class Send(Struct, frozen=True):
    peer: PeerId
    message: AnyProtocolMessage


class Put(Struct, frozen=True):
    """Write these bytes, in pieces if they are many, after the transfer's earlier ones."""

    transfer: int
    peer: PeerId
    memory: bytes
    runs: Runs


class Drop(Struct, frozen=True):
    """Forget the puts and flushes of a transfer that have not begun."""

    transfer: int


class Flush(Struct, frozen=True):
    """Once all puts of the transfer have landed, the ledger hears `flushed`; never, where the peer
    is lost before."""

    transfer: int
    peer: PeerId
    memory: bytes


class Tell(Struct, frozen=True):
    """Tell the engine how a grant or transfer ended."""

    event: TransferEvent


Effect: TypeAlias = Connect | Send | Put | Drop | Flush | Tell
