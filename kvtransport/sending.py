"""Every transfer that this engine sends: who is meant, and when something is due.

What each of them does next is told in `kvtransport.steps`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeAlias, assert_never

import numpy as np

from . import steps
from .effects import Connect, Effect, Name, Send
from .grants import Grant
from .layout import Offsets, expand, num_pages_of
from .outgoing import STARTING, Home, Outgoing, State, Write
from .protocol import (
    Ceased,
    Done,
    FromReceiver,
    Open,
    Opened,
    Reading,
    Refuse,
    Revoke,
    Taken,
)
from .transport import PeerId

_Step: TypeAlias = Callable[[Outgoing], list[Effect]]


class Sender:
    """Every transfer that has not ended, by its serial number."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._transfers: dict[int, Outgoing] = {}
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
        count = num_pages_of(self._home.shape, grant.begin, grant.end)
        missing = np.ones((grant.shape.num_layers, count), np.bool_)
        remote = expand(grant.pages)
        pages = np.full(count, -1)
        transfer = Outgoing(self._last_serial, grant, remote, pages, missing, now, now)
        self._transfers[transfer.serial] = transfer
        self._serials[transfer.name] = transfer.serial
        return [Connect(grant.address), Send(transfer.peer, self._opening(transfer))]

    def write(self, name: Name, write: Write, now: float) -> list[Effect]:
        return self._step(self._starting(name), lambda t: steps.write(t, self._home, write, now))

    def finish(self, name: Name, now: float) -> list[Effect]:
        return self._step(self._starting(name), lambda t: steps.finish(t, self._home, now))

    def lend(self, name: Name, pages: Offsets, now: float) -> list[Effect]:
        return self._step(self._starting(name), lambda t: steps.lend(t, self._home, pages, now))

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        return self._step(self._named(name), lambda t: steps.abort(t, reason, now))

    def abort_all(self, reason: str, now: float) -> list[Effect]:
        return self._each(self._transfers.values(), lambda t: steps.abort(t, reason, now))

    def abandon(self, reason: str) -> list[Effect]:
        return self._each(self._transfers.values(), lambda t: steps.fail(t, reason))

    # --- what happens ---------------------------------------------------------------------------

    def progressed(self, serial: int, now: float, write_s: float = 0.0) -> list[Effect]:
        """Some of the transfer's bytes went out, which took ``write_s``."""
        if transfer := self._transfers.get(serial):
            transfer.progressed_at = now
            transfer.write_s += write_s
        return []

    def flushed(self, serial: int, lane: str, now: float) -> list[Effect]:
        return self._step(
            self._transfers.get(serial), lambda t: steps.flushed(t, self._home, lane, now)
        )

    def summed(self, serial: int, sums: bytes, now: float) -> list[Effect]:
        transfer = self._transfers.get(serial)
        return self._step(transfer, lambda t: steps.summed(t, self._home, sums, now))

    def stuck(self, serial: int, reason: str, now: float) -> list[Effect]:
        return self._step(self._transfers.get(serial), lambda t: steps.abort(t, reason, now))

    def lost(self, peer: PeerId) -> list[Effect]:
        gone = [t for t in self._transfers.values() if t.peer == peer]
        return self._each(gone, lambda t: steps.fail(t, "the receiver was lost"))

    def tick(self, now: float) -> list[Effect]:
        return self._each(self._transfers.values(), lambda t: steps.due(t, now))

    def received(self, peer: PeerId, message: FromReceiver, now: float) -> list[Effect]:
        transfer = self._transfers.get(message.transfer)
        if transfer is None or transfer.peer != peer or transfer.ids[0] != message.grant:
            return _unknown(peer, message)
        return self._step(transfer, lambda t: self._heard(t, message, now))

    # --- inside ---------------------------------------------------------------------------------

    def _heard(self, transfer: Outgoing, message: FromReceiver, now: float) -> list[Effect]:
        match message:
            case Opened():
                return steps.opened(transfer, self._home, now)
            case Done():
                return steps.done(transfer, now)
            case Taken():
                return steps.taken(transfer, self._home, message, now)
            case Reading():
                transfer.progressed_at = now
                return []
            case Refuse():
                return steps.refused(transfer, message)
            case Revoke():
                return steps.revoked(transfer, message, now)
            case _:
                assert_never(message)

    def _opening(self, transfer: Outgoing) -> Open:
        grant = transfer.grant
        return Open(
            *transfer.ids,
            address=self._home.address,
            engine=grant.engine,
            epoch=grant.epoch,
            flow=grant.flow,
            attempt=grant.attempt,
            begin=grant.begin,
            end=grant.end,
        )

    def _named(self, name: Name) -> Outgoing | None:
        return self._transfers.get(self._serials.get(name, 0))

    def _starting(self, name: Name) -> Outgoing | None:
        transfer = self._named(name)
        return transfer if transfer and transfer.state in STARTING else None

    def _step(self, transfer: Outgoing | None, step: _Step) -> list[Effect]:
        if transfer is None:
            return []
        effects = step(transfer)
        if transfer.state is State.ENDED:
            del self._transfers[transfer.serial], self._serials[transfer.name]
        return effects

    def _each(self, transfers: Iterable[Outgoing], step: _Step) -> list[Effect]:
        return [effect for transfer in list(transfers) for effect in self._step(transfer, step)]


def _unknown(peer: PeerId, message: FromReceiver) -> list[Effect]:
    """Of a transfer that has ended: we write no more, and say so to whoever waits for it."""
    if isinstance(message, Opened | Revoke | Taken):
        return [Send(peer, Ceased(message.grant, message.transfer, "the transfer had ended"))]
    return []
