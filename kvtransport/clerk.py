"""Keeps the ledger on the transport's thread: hears what happened, carries out what it wants."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import assert_never

import msgspec
from msgspec import Struct

from bus.transfers import PoolShape, TransferEvent

from .checksums import Checksums
from .effects import Connect, Drop, Effect, Flush, Get, Put, Send, Sum, Tell
from .layout import Bytes
from .ledger import Ledger
from .outbox import Outbox
from .pacing import Pace
from .protocol import decode, encode
from .staging import NOBODY, Staging
from .transport import PeerId, Transport, Unreachable, peer_id

log = logging.getLogger(__name__)


class Means(Struct, frozen=True, eq=False):
    """What effects are carried out with."""

    transport: Transport
    memory: Bytes
    """The pool, and behind it `STAGING_BYTES`."""
    shape: PoolShape
    pace: Pace


class Clerk:
    """The `Handler` of a courier's transport; everything but `settled` is for its thread alone.

    ``on_event`` hears how grants and transfers end, and must not block.
    """

    def __init__(
        self,
        ledger: Ledger,
        means: Means,
        clock: Callable[[], float],
        on_event: Callable[[TransferEvent], None],
    ) -> None:
        self.ledger = ledger
        self.bad_messages = 0
        """Messages of peers that could not be read; each was ignored."""
        self.failed = 0
        """Effects that raised; each was logged, and the others were carried out."""
        self.settled = threading.Event()
        """Set once `stop` was asked for and nothing is open any more."""
        self._transport = means.transport
        self._clock, self._on_event = clock, on_event
        self._outbox = Outbox(means.transport, self, clock, means.pace)
        self._staging = Staging(means.memory, means.shape.num_bytes, self._outbox, self)
        self._checksums = Checksums(means.memory, means.shape)
        self._stopping = False

    def stop(self, reason: str) -> None:
        """Revoke and abort everything."""
        self._stopping = True
        self.carry_out(self.ledger.stop(reason, self._clock()))

    # --- Handler --------------------------------------------------------------------------------

    def received(self, peer: PeerId, data: bytes) -> None:
        try:
            message = decode(data)
        except msgspec.MsgspecError as error:
            self.bad_messages += 1
            log.warning("ignored %d bytes from peer %s: %s", len(data), peer.hex(), error)
            return
        self.carry_out(self.ledger.received(peer, message, self._clock()))

    def lost(self, peer: PeerId) -> None:
        self._outbox.forget(peer)
        self._staging.forget(peer)
        self.carry_out(self.ledger.lost(peer))

    def turn(self) -> float | None:
        busy = self._staging.turn() | self._checksums.turn()
        waits = [0.0 if busy else None, self._outbox.turn(), self._tick()]
        if self._stopping and not (self.ledger.num_receiving or self.ledger.num_sending):
            self.settled.set()
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    def _tick(self) -> float | None:
        """Let the ledger's timers run; seconds until the next of them."""
        now, deadline = self._clock(), self.ledger.deadline()
        if deadline is not None and now >= deadline:
            self.carry_out(self.ledger.tick(now))
            deadline = self.ledger.deadline()
        return None if deadline is None else max(deadline - now, 0.0)

    # --- effects --------------------------------------------------------------------------------

    def carry_out(self, effects: list[Effect]) -> None:
        """All of them: one that raises, of one transfer, must not cost another its end."""
        for effect in effects:
            try:
                self._perform(effect)
            except Exception:
                self.failed += 1
                log.exception("%s could not be carried out", type(effect).__name__)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Connect(address):
                self._connect(address)
            case Send(peer, message):
                self._transport.send(peer, encode(message))
            case Put(transfer, peer, memory, runs, cast) if cast:
                self._staging.put(transfer, peer, memory, runs, cast)
            case Put(transfer, peer, memory, runs):
                self._outbox.put(transfer, peer, memory, runs)
            case Get(transfer, peer, memory, runs):
                self._outbox.get(transfer, peer, memory, runs)
            case Drop(transfer):
                self._staging.drop(transfer)
                self._outbox.drop(transfer)
                self._checksums.drop(transfer)
            case Flush(transfer, peer, memory):
                self._flush(transfer, peer, memory)
            case Sum(transfer):
                self._checksums.add(effect, partial(self._summed, transfer))
            case Tell(event):
                self._on_event(event)
            case _:
                assert_never(effect)

    def _connect(self, address: bytes) -> None:
        try:
            self._transport.connect(address)
        except Unreachable as error:
            log.warning("%s", error)
            self.carry_out(self.ledger.lost(peer_id(address)))

    def _flush(self, transfer: int, peer: PeerId, memory: bytes) -> None:
        def landed() -> None:
            lane = self._transport.lane(peer, memory)
            self.carry_out(self.ledger.flushed(transfer, lane, self._clock()))

        queue = self._staging if self._staging.has(transfer) else self._outbox
        queue.flush(transfer, peer, landed)

    def issued(self, transfer: int, seconds: float) -> None:
        """Of a transfer's bytes some went out or have landed."""
        self.carry_out(self.ledger.progressed(transfer, self._clock(), seconds))

    def moved(self, transfer: int) -> None:
        """Converted bytes have landed."""
        self.issued(transfer, 0.0)

    def stuck(self, transfer: int, why: str) -> None:
        """Bytes cannot be copied, or their numbers not converted: the transfer fails."""
        if transfer == NOBODY:
            transfer = self._staging.transfer
        self.carry_out(self.ledger.stuck(transfer, why, self._clock()))

    def _summed(self, transfer: int, sums: bytes) -> None:
        self.carry_out(self.ledger.summed(transfer, sums, self._clock()))
