"""The sender's side of transfers: what is written when, and how we stop.

```
          Opened            finish          flushed            Done
opening ---------> writing ---------> finishing ---------> completing ---------> Delivered
   |                  |                   |                     |
   | refused,         | aborted, revoked, stalled               | refused, no answer
   | aborted          +---> stopping <----+                     |
   v                            | flushed: Ceased               v
SendFailed <--------------------+----------------------- SendFailed
```

Pages that exist already may be lent: then the receiver reads them.

```
          lend, Opened            Taken: Agreed
opening, writing ------> lending --------------> Delivered
                            | aborted, no word: Recall     Refuse
                            +-----------------> recalling -------> SendFailed
```

While a flush is under way, and until a reader has answered, our pages may still be read: no ending
is told before that is over or the connection is gone.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.transfers import Delivered, PoolShape, SendFailed

from .effects import Connect, Drop, Effect, Flush, Name, Put, Send, Tell
from .grants import Grant
from .layout import (
    Offsets,
    Runs,
    check_pages,
    coalesce,
    compress,
    expand,
    num_pages_of,
    relay,
)
from .protocol import (
    Agreed,
    Ceased,
    Complete,
    Done,
    FromReceiver,
    Lend,
    Open,
    Opened,
    Reading,
    Recall,
    Refuse,
    Renew,
    Revoke,
    Taken,
)
from .transport import PeerId, peer_id


class _State(enum.Enum):
    OPENING = enum.auto()
    WRITING = enum.auto()
    FINISHING = enum.auto()
    COMPLETING = enum.auto()
    STOPPING = enum.auto()
    LENDING = enum.auto()
    RECALLING = enum.auto()


_FLUSHING = (_State.FINISHING, _State.STOPPING)
_STARTING = (_State.OPENING, _State.WRITING)
_UNBOUNDED = (*_FLUSHING, _State.RECALLING)
_REFUSABLE = (_State.OPENING, _State.COMPLETING, _State.LENDING, _State.RECALLING)


class Write(Struct, frozen=True, eq=False):
    """One layer of some of our pages, for the granted pages number ``first`` and following."""

    layer: int
    first: int
    pages: Offsets


@dataclass(slots=True, eq=False)
class _Transfer:
    serial: int
    grant: Grant
    remote: Offsets
    """The granted pages, in order."""
    missing: NDArray[np.bool_]
    """[layer, page of ours]: what was not written yet. Ours are as many as were granted, where
    both have the same size."""
    progressed_at: float
    renewed_at: float
    state: _State = _State.OPENING
    waiting: list[Runs] = field(default_factory=list)
    """Writes that came before we were let in."""
    wants_finish: bool = False
    lent: Offsets | None = None
    """Our pages, where the receiver is to read them."""
    reason: str = ""
    begun_at: float | None = None
    finished_at: float = 0.0
    num_bytes: int = 0
    num_runs: int = 0
    write_s: float = 0.0
    lane: str = ""

    @property
    def name(self) -> Name:
        return self.grant.flow, self.grant.attempt

    @property
    def peer(self) -> PeerId:
        return peer_id(self.grant.address)

    @property
    def ids(self) -> tuple[int, int]:
        return self.grant.serial, self.serial

    @property
    def renewal(self) -> float:
        """When the receiver's lease is to be renewed, because there was progress since."""
        if self.lent is None and self.progressed_at > self.renewed_at:
            return self.renewed_at + self.grant.lease_s / 2
        return math.inf

    @property
    def stall(self) -> float:
        """When to give up waiting. Never for a flush or a reader: they end, or the peer is lost."""
        return math.inf if self.state in _UNBOUNDED else self.progressed_at + self.grant.lease_s


class Sender:
    """Every transfer that this engine sends and that has not ended."""

    def __init__(self, address: bytes, memory: bytes, shape: PoolShape) -> None:
        """``memory`` is what lets a peer read our pool."""
        self._address, self._memory, self._shape = address, memory, shape
        self._transfers: dict[int, _Transfer] = {}
        self._serials: dict[Name, int] = {}
        self._last_serial = 0

    def __len__(self) -> int:
        return len(self._transfers)

    def deadline(self) -> float | None:
        times = [min(t.renewal, t.stall) for t in self._transfers.values()]
        return min((time for time in times if time < math.inf), default=None)

    # --- what the engine wants ------------------------------------------------------------------

    def open(self, grant: Grant, now: float) -> list[Effect]:
        self._last_serial += 1
        remote = expand(grant.pages)
        count = num_pages_of(self._shape, grant.begin, grant.end)
        missing = np.ones((grant.shape.num_layers, count), np.bool_)
        transfer = _Transfer(self._last_serial, grant, remote, missing, now, now)
        self._transfers[transfer.serial] = transfer
        self._serials[transfer.name] = transfer.serial
        opening = Open(
            *transfer.ids,
            address=self._address,
            engine=grant.engine,
            epoch=grant.epoch,
            flow=grant.flow,
            attempt=grant.attempt,
            begin=grant.begin,
            end=grant.end,
        )
        return [Connect(grant.address), Send(transfer.peer, opening)]

    def write(self, name: Name, write: Write, now: float) -> list[Effect]:
        transfer = self._starting(name)
        if transfer is None:
            return []
        if transfer.wants_finish:
            return self._abort(transfer, "written to after it was finished", now)
        try:
            runs = self._runs(transfer, write)
        except ValueError as error:
            return self._abort(transfer, str(error), now)
        transfer.begun_at = now if transfer.begun_at is None else transfer.begun_at
        transfer.progressed_at = now
        if transfer.state is _State.OPENING:
            transfer.waiting.append(runs)
            return []
        return [self._put(transfer, runs)]

    def finish(self, name: Name, now: float) -> list[Effect]:
        transfer = self._starting(name)
        if transfer is None:
            return []
        if transfer.missing.any():
            lacking = f"{int(transfer.missing.sum())} of {transfer.missing.size}"
            return self._abort(transfer, f"finished with {lacking} pages not written", now)
        transfer.wants_finish, transfer.finished_at = True, now
        return [] if transfer.state is _State.OPENING else self._flush(transfer)

    def lend(self, name: Name, pages: Offsets, now: float) -> list[Effect]:
        transfer = self._starting(name)
        if transfer is None:
            return []
        try:
            self._check_loan(transfer, pages)
        except ValueError as error:
            return self._abort(transfer, str(error), now)
        transfer.lent, transfer.wants_finish = pages, True
        transfer.begun_at = transfer.finished_at = transfer.progressed_at = now
        return [] if transfer.state is _State.OPENING else self._lend(transfer, pages)

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        transfer = self._named(name)
        return [] if transfer is None else self._abort(transfer, reason, now)

    def abort_all(self, reason: str, now: float) -> list[Effect]:
        transfers = list(self._transfers.values())
        return [e for transfer in transfers for e in self._abort(transfer, reason, now)]

    def abandon(self, reason: str) -> list[Effect]:
        return [e for t in list(self._transfers.values()) for e in self._failed(t, reason)]

    # --- what happens ---------------------------------------------------------------------------

    def progressed(self, serial: int, now: float, write_s: float = 0.0) -> list[Effect]:
        """Some of the transfer's bytes went out, which took ``write_s``."""
        if transfer := self._transfers.get(serial):
            transfer.progressed_at = now
            transfer.write_s += write_s
        return []

    def flushed(self, serial: int, lane: str, now: float) -> list[Effect]:
        transfer = self._transfers.get(serial)
        if transfer is None or transfer.state not in _FLUSHING:
            return []
        if transfer.state is _State.STOPPING:
            return self._ceased(transfer, transfer.reason)
        transfer.state, transfer.lane, transfer.progressed_at = _State.COMPLETING, lane, now
        return [Send(transfer.peer, Complete(*transfer.ids))]

    def lost(self, peer: PeerId) -> list[Effect]:
        gone = [t for t in self._transfers.values() if t.peer == peer]
        return [e for transfer in gone for e in self._failed(transfer, "the receiver was lost")]

    def tick(self, now: float) -> list[Effect]:
        return [e for t in list(self._transfers.values()) for e in self._due(t, now)]

    def received(self, peer: PeerId, message: FromReceiver, now: float) -> list[Effect]:
        transfer = self._transfers.get(message.transfer)
        if transfer is None or transfer.peer != peer or transfer.ids[0] != message.grant:
            return self._unknown(peer, message)
        match message:
            case Opened():
                return self._opened(transfer, now)
            case Done() if transfer.state is _State.COMPLETING:
                return self._delivered(transfer, now)
            case Taken() if transfer.state in (_State.LENDING, _State.RECALLING):
                return self._taken(transfer, message, now)
            case Reading():
                transfer.progressed_at = now
                return []
            case Done() | Taken():
                return []
            case Refuse():
                return self._refused(transfer, message)
            case Revoke():
                return self._revoked(transfer, message, now)
            case _:
                assert_never(message)

    # --- steps ----------------------------------------------------------------------------------

    def _named(self, name: Name) -> _Transfer | None:
        return self._transfers.get(self._serials.get(name, 0))

    def _starting(self, name: Name) -> _Transfer | None:
        transfer = self._named(name)
        return transfer if transfer and transfer.state in _STARTING else None

    def _check_loan(self, transfer: _Transfer, pages: Offsets) -> None:
        if not transfer.missing.all():
            raise ValueError("pages were to be lent, and some were written already")
        if len(pages) != transfer.missing.shape[1]:
            raise ValueError(
                f"{len(pages)} pages lent for {transfer.missing.shape[1]} granted ones"
            )
        check_pages(self._shape, pages)

    def _lend(self, transfer: _Transfer, pages: Offsets) -> list[Effect]:
        transfer.state = _State.LENDING
        lend = Lend(*transfer.ids, tuple(compress(pages)), self._shape, self._memory)
        return [Send(transfer.peer, lend)]

    def _runs(self, transfer: _Transfer, write: Write) -> Runs:
        layers, granted = transfer.missing.shape
        first, end = write.first, write.first + len(write.pages)
        if not (0 <= write.layer < layers and 0 <= first <= end <= granted):
            raise ValueError(
                f"layer {write.layer}, granted pages [{first}, {end}) were to be written; there are"
                f" {layers} layers and {granted} granted pages"
            )
        check_pages(self._shape, write.pages)
        transfer.missing[write.layer, first:end] = False
        theirs = transfer.grant.shape
        if theirs.page_size != self._shape.page_size:
            pages = write.pages, transfer.remote
            return relay(self._shape, theirs, write.layer, first, pages)
        remote = transfer.remote[first:end]
        return coalesce(self._shape, theirs, write.layer, write.pages, remote)

    def _put(self, transfer: _Transfer, runs: Runs) -> Effect:
        transfer.num_bytes += runs.total_bytes()
        transfer.num_runs += len(runs)
        return Put(transfer.serial, transfer.peer, transfer.grant.memory, runs)

    def _flush(self, transfer: _Transfer) -> list[Effect]:
        transfer.state = _State.FINISHING
        return [Flush(transfer.serial, transfer.peer, transfer.grant.memory)]

    def _opened(self, transfer: _Transfer, now: float) -> list[Effect]:
        if transfer.state is not _State.OPENING:
            return []
        transfer.state, transfer.progressed_at, transfer.renewed_at = _State.WRITING, now, now
        puts: list[Effect] = [self._put(transfer, runs) for runs in transfer.waiting]
        transfer.waiting.clear()
        if transfer.lent is not None:
            return self._lend(transfer, transfer.lent)
        return [*puts, *(self._flush(transfer) if transfer.wants_finish else [])]

    def _refused(self, transfer: _Transfer, message: Refuse) -> list[Effect]:
        if transfer.state in _REFUSABLE:
            return self._failed(transfer, f"{message.reason}: {message.message}")
        return []  # answers an earlier copy of a message; what counts is on its way

    def _revoked(self, transfer: _Transfer, message: Revoke, now: float) -> list[Effect]:
        reason = f"revoked by the receiver: {message.reason}"
        if transfer.state in (_State.COMPLETING, _State.LENDING, _State.RECALLING):
            return self._ceased(transfer, reason)  # a receiver that reads would have refused
        return self._abort(transfer, reason, now)

    @staticmethod
    def _unknown(peer: PeerId, message: FromReceiver) -> list[Effect]:
        """Of a transfer that has ended: we write no more, and say so to whoever waits for it."""
        if isinstance(message, Opened | Revoke | Taken):
            return [Send(peer, Ceased(message.grant, message.transfer, "the transfer had ended"))]
        return []

    def _abort(self, transfer: _Transfer, reason: str, now: float) -> list[Effect]:
        match transfer.state:
            case _State.OPENING:
                return self._ceased(transfer, reason)
            case _State.WRITING | _State.FINISHING:
                transfer.state, transfer.reason = _State.STOPPING, reason
                transfer.progressed_at = now
                flush = Flush(transfer.serial, transfer.peer, transfer.grant.memory)
                return [Drop(transfer.serial), flush]
            case _State.LENDING:
                transfer.state, transfer.reason = _State.RECALLING, reason
                return [Send(transfer.peer, Recall(*transfer.ids, reason))]
            case _State.COMPLETING | _State.STOPPING | _State.RECALLING:
                return []  # too late to stop, or stopping already

    def _due(self, transfer: _Transfer, now: float) -> list[Effect]:
        if now >= transfer.stall:
            waited = f"nothing happened for {transfer.grant.lease_s:g} s"
            if transfer.state is _State.COMPLETING:
                return self._failed(transfer, f"no acknowledgement: {waited}")
            return self._abort(transfer, waited, now)
        if now >= transfer.renewal:
            transfer.renewed_at = now
            return [Send(transfer.peer, Renew(*transfer.ids))]
        return []

    # --- endings --------------------------------------------------------------------------------

    def _taken(self, transfer: _Transfer, message: Taken, now: float) -> list[Effect]:
        transfer.num_bytes = transfer.missing.size * self._shape.page_bytes
        transfer.num_runs, transfer.lane = message.num_runs, message.lane
        transfer.write_s = message.read_s
        agreed = Send(transfer.peer, Agreed(*transfer.ids))
        return [agreed, *self._delivered(transfer, now)]

    def _delivered(self, transfer: _Transfer, now: float) -> list[Effect]:
        self._forget(transfer)
        begun_at = transfer.finished_at if transfer.begun_at is None else transfer.begun_at
        delivered = Delivered(
            *transfer.name,
            num_bytes=transfer.num_bytes,
            num_runs=transfer.num_runs,
            seconds=now - begun_at,
            exposed_s=now - transfer.finished_at,
            lane=transfer.lane,
            write_s=transfer.write_s,
        )
        return [Tell(delivered)]

    def _ceased(self, transfer: _Transfer, reason: str) -> list[Effect]:
        return [
            Send(transfer.peer, Ceased(*transfer.ids, reason)),
            *self._failed(transfer, reason),
        ]

    def _failed(self, transfer: _Transfer, reason: str) -> list[Effect]:
        self._forget(transfer)
        return [Drop(transfer.serial), Tell(SendFailed(*transfer.name, reason=reason))]

    def _forget(self, transfer: _Transfer) -> None:
        del self._transfers[transfer.serial], self._serials[transfer.name]
