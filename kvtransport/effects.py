"""What the ledger wants done. The courier carries effects out in the order they were returned."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bus.transfers import PoolShape, TransferEvent

from .casting import Cast
from .layout import Offsets, Runs
from .protocol import AnyProtocolMessage
from .transport import PeerId

Name: TypeAlias = tuple[str, int]
"""(flow, attempt)."""


def reading_number(grant_serial: int) -> int:
    """What the effects of reading for a grant are numbered: transfers that we send count up from 1,
    those that we read down from -1."""
    return -grant_serial


class Connect(Struct, frozen=True):
    """Have a connection to this address. Where there is no way, the ledger hears `lost`."""

    address: bytes


class Send(Struct, frozen=True):
    peer: PeerId
    message: AnyProtocolMessage


class Put(Struct, frozen=True):
    """Write these bytes, in pieces if they are many, after the transfer's earlier ones; converted,
    where they are to be, and then ``num_bytes`` are the peer's."""

    transfer: int
    peer: PeerId
    memory: bytes
    runs: Runs
    cast: Cast | None = None


class Get(Struct, frozen=True):
    """Read these bytes, in pieces if they are many, after the transfer's earlier ones."""

    transfer: int
    peer: PeerId
    memory: bytes
    runs: Runs


class Drop(Struct, frozen=True):
    """Forget the puts, gets, flushes and sums of a transfer that have not begun."""

    transfer: int


class Flush(Struct, frozen=True):
    """Once all puts and gets of the transfer have landed, the ledger hears `flushed`; never, where
    the peer is lost before."""

    transfer: int
    peer: PeerId
    memory: bytes


class Sum(Struct, frozen=True, eq=False):
    """Once they are known, the ledger hears `summed` with the checksums of ``num_tokens`` tokens in
    these pages of ours, layer by layer, as they are in a pool of the target's shape; never, where
    it is dropped."""

    transfer: int
    pages: Offsets
    num_tokens: int
    target: PoolShape


class Tell(Struct, frozen=True):
    """Tell the engine how a grant or transfer ended."""

    event: TransferEvent


Effect: TypeAlias = Connect | Send | Put | Get | Drop | Flush | Sum | Tell
