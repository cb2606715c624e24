"""Ledgers with one fault each: a walk that does not find them shows nothing.

Every one is the production ledger with one rule of the protocol left out.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec

from bus.transfers import PoolShape
from kvtransport import steps
from kvtransport.effects import Effect, Flush, Name, Send
from kvtransport.granted import Checking, Confirming, Fencing, Reads, State, Used
from kvtransport.grants import Grant
from kvtransport.ledger import Ledger
from kvtransport.outgoing import State as Sent
from kvtransport.protocol import (
    Ceased,
    Complete,
    FromReceiver,
    FromSender,
    Open,
    Recall,
    Refuse,
    Taken,
)
from kvtransport.receiving import Receiver
from kvtransport.sending import Sender
from kvtransport.transport import PeerId

from .walk import home, life
from .walk_ledgers import LEASE_S
from .walk_values import Make


class FreesBeforeTheFence(Receiver):
    """A revoked page is free at once, whoever writes it."""

    def _fence(self, state: Fencing, now: float) -> list[Effect]:
        return [*super()._fence(state, now), *self._fenced(state, state.reason)]


class FreesWhatItStillReadsInto(Receiver):
    """A revoked page is free at once, whatever is being read into it."""

    def _stop(self, state: State, reason: str, now: float) -> list[Effect]:
        stopped = super()._stop(state, reason, now)
        return [*stopped, *self._fenced(state, reason)] if isinstance(state, Reads) else stopped


class ArrivesWithoutAgreed(Receiver):
    """What was read is published without asking the lender."""

    def flushed(self, number: int, lane: str, now: float) -> list[Effect]:
        effects = super().flushed(number, lane, now)
        state = self._states.get(-number)
        return [*effects, *self._arrived(state)] if isinstance(state, Confirming) else effects


class ForgetsItsEpoch(Receiver):
    """A grant of an earlier life is honoured."""

    def _open(self, peer: PeerId, message: Open, now: float) -> list[Effect]:
        ours = msgspec.structs.replace(message, epoch=self._life.epoch)
        return super()._open(peer, ours, now)


class TakesCeasedForComplete(Receiver):
    """A writer that stopped is believed to have finished."""

    def received(self, peer: PeerId, message: FromSender, now: float) -> list[Effect]:
        if isinstance(message, Ceased):
            message = Complete(message.grant, message.transfer)
        return super().received(peer, message, now)


class NeverLooksAtTheClock(Receiver):
    """A lease does not run out."""

    def deadline(self) -> float | None:
        return None


class RevokesOnce(Receiver):
    """A revocation that is lost is not repeated."""

    def _fence(self, state: Fencing, now: float) -> list[Effect]:
        effects = super()._fence(state, now)
        forever = msgspec.structs.replace(state, expires_at=inf)
        self._states[state.offer.serial] = forever
        return effects


class ConfirmsOnce(Receiver):
    """That the pages were read is not repeated, if it is lost or its answer."""

    def _confirm(self, state: Confirming, now: float) -> list[Effect]:
        known = self._states[state.offer.serial]
        effects = super()._confirm(state, now)
        forever = msgspec.structs.replace(state, expires_at=inf)
        self._states[state.offer.serial] = forever
        return [] if isinstance(known, Confirming) else effects


class OverlooksLosses(Receiver):
    """A sender that is gone is waited for."""

    def lost(self, peer: PeerId) -> list[Effect]:
        return []


class StaysOpenAfterRecall(Receiver):
    """A loan that was taken back before it came is accepted when it comes."""

    def _recalled(
        self, state: State | None, peer: PeerId, message: Recall, now: float
    ) -> list[Effect]:
        if not isinstance(state, Used):
            return super()._recalled(state, peer, message, now)
        return [Send(peer, Refuse(message.grant, message.transfer, "no_such_flow", "ended"))]


class BelievesEverySum(Receiver):
    """What arrived is published, whatever its checksums."""

    def _checked(self, state: Checking, sums: bytes) -> list[Effect]:
        return super()._checked(state, state.sums)


class BelievesEveryReader(Sender):
    """A reader is told that it has read right, whatever its checksums."""

    def received(self, peer: PeerId, message: FromReceiver, now: float) -> list[Effect]:
        transfer = self._transfers.get(message.transfer)
        if isinstance(message, Taken) and transfer is not None and transfer.sums:
            message = msgspec.structs.replace(message, sums=transfer.sums)
        return super().received(peer, message, now)

    def summed(self, serial: int, sums: bytes, now: float) -> list[Effect]:
        taken = self._transfers[serial].taken
        return super().summed(serial, taken.sums if taken else sums, now)


class CeasesBeforeTheFlush(Sender):
    """It says that it has stopped while a put is under way."""

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        return self._step(self._named(name), lambda t: steps.cease(t, reason))


class CompletesBeforeTheFlush(Sender):
    """It says that everything is there while a put is under way."""

    def finish(self, name: Name, now: float) -> list[Effect]:
        effects = super().finish(name, now)
        transfer = self._named(name)
        if transfer is None or transfer.state is not Sent.FINISHING:
            return effects
        puts = [effect for effect in effects if not isinstance(effect, Flush)]
        return [*puts, *self.flushed(transfer.serial, "lane", now)]


class TakesBackWhatIsRead(Sender):
    """Lent pages are reused without waiting for the reader."""

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        effects = super().abort(name, reason, now)
        transfer = self._named(name)
        if transfer is None or transfer.state is not Sent.RECALLING:
            return effects
        return [*effects, *self._step(transfer, lambda t: steps.fail(t, reason))]


class WritesBeforeItIsLetIn(Sender):
    """The grant is enough for it."""

    def open(self, grant: Grant, now: float) -> list[Effect]:
        effects = super().open(grant, now)
        transfer = self._transfers[self._last_serial]
        return [*effects, *self._step(transfer, lambda t: steps.opened(t, self._home, now))]


class DeliversWithoutDone(Sender):
    """A flush is enough for it: but a dead peer's memory takes everything."""

    def flushed(self, serial: int, lane: str, now: float) -> list[Effect]:
        effects = super().flushed(serial, lane, now)
        return [*effects, *self._step(self._transfers.get(serial), lambda t: steps.done(t, now))]


class RecallsOnce(Sender):
    """A recall that is lost is not repeated."""

    def tick(self, now: float) -> list[Effect]:
        return [e for e in super().tick(now) if not _is_recall(e)]


def _is_recall(effect: Effect) -> bool:
    return isinstance(effect, Send) and isinstance(effect.message, Recall)


FAULTY_RECEIVERS: Final = (
    FreesBeforeTheFence,
    FreesWhatItStillReadsInto,
    ArrivesWithoutAgreed,
    ForgetsItsEpoch,
    TakesCeasedForComplete,
    NeverLooksAtTheClock,
    RevokesOnce,
    ConfirmsOnce,
    OverlooksLosses,
    StaysOpenAfterRecall,
)
WITHOUT_CHECKS: Final = (BelievesEverySum, BelievesEveryReader)
FAULTY_SENDERS: Final = (
    CeasesBeforeTheFlush,
    CompletesBeforeTheFlush,
    TakesBackWhatIsRead,
    WritesBeforeItIsLetIn,
    DeliversWithoutDone,
    RecallsOnce,
)


def planted(fault: type[Receiver] | type[Sender]) -> Make:
    """Ledgers that have the fault."""
    receiver = fault if issubclass(fault, Receiver) else Receiver
    sender = fault if issubclass(fault, Sender) else Sender

    def make(n: int, epoch: int, shape: PoolShape) -> Ledger:
        return Ledger(
            receiver(life(n, epoch), float(LEASE_S), shape), sender(home(n, epoch, shape))
        )

    return make
