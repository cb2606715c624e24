"""The grants of an engine that have not ended, and how each of them ends."""

from __future__ import annotations

import msgspec

from bus.messages import Reason
from bus.transfers import Arrived, Fenced, PoolShape

from .effects import Drop, Effect, Flush, Name, Send, Tell, reading_number
from .granted import (
    TIMED,
    Checking,
    Confirming,
    Fencing,
    Granted,
    Offer,
    Reads,
    State,
    Used,
    Withdrawing,
)
from .opening import Life
from .protocol import Refuse, Revoke
from .transport import PeerId


class Grants:
    """By their serial numbers. Which messages lead where is told in `kvtransport.receiving`."""

    def __init__(self, life: Life, lease_s: float, shape: PoolShape) -> None:
        self._life, self._lease_s, self._shape = life, lease_s, shape
        self._states: dict[int, State] = {}
        self._serials: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._states)

    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing changes before."""
        return min(
            (s.expires_at for s in self._states.values() if isinstance(s, TIMED)),
            default=None,
        )

    def grant(self, offer: Offer) -> list[Effect]:
        self._states[offer.serial] = Granted(offer, offer.expires_at)
        self._serials[offer.name] = offer.serial
        return []

    def revoke(self, name: Name, reason: str, now: float) -> list[Effect]:
        serial = self._serials.get(name)
        return [] if serial is None else self._stop(self._states[serial], reason, now)

    def revoke_all(self, reason: str, now: float) -> list[Effect]:
        return [e for state in list(self._states.values()) for e in self._stop(state, reason, now)]

    def abandon(self, reason: str) -> list[Effect]:
        """The pool itself goes away, so that there is nothing left to protect."""
        return [e for state in list(self._states.values()) for e in self._fenced(state, reason)]

    def tick(self, now: float) -> list[Effect]:
        overdue = [
            state
            for state in self._states.values()
            if isinstance(state, TIMED) and now >= state.expires_at
        ]
        return [e for state in overdue for e in self._due(state, now)]

    def lost(self, peer: PeerId) -> list[Effect]:
        gone = [
            state
            for state in self._states.values()
            if not isinstance(state, Granted) and state.writer.peer == peer
        ]
        return [e for state in gone for e in self._fenced(state, "the sender was lost")]

    # --- what is due, and endings ---------------------------------------------------------------

    def _due(self, state: State, now: float) -> list[Effect]:
        match state:
            case Fencing():
                return self._fence(state, now)
            case Confirming():
                return self._confirm(state, now)
            case _:
                return self._stop(state, "the lease ran out", now)

    def _stop(self, state: State, reason: str, now: float) -> list[Effect]:
        match state:
            case Granted():
                return self._fenced(state, reason)
            case Used(offer, _, writer):
                return self._fence(Fencing(offer, now, writer, reason), now)
            case Reads(offer=offer, writer=writer, memory=memory):
                self._states[offer.serial] = Withdrawing(offer, writer, reason)
                number = reading_number(offer.serial)
                return [Drop(number), Flush(number, writer.peer, memory)]
            case Checking(offer, writer):
                ids = offer.serial, writer.transfer
                refuse = Send(writer.peer, Refuse(*ids, "transfer_failed", reason))
                return [Drop(reading_number(offer.serial)), refuse, *self._fenced(state, reason)]
            case Fencing() | Confirming() | Withdrawing():
                return []

    def _fence(self, state: Fencing, now: float) -> list[Effect]:
        """Ask the writer to stop, and to say so."""
        waiting = msgspec.structs.replace(state, expires_at=now + self._lease_s)
        self._states[state.offer.serial] = waiting
        ids = state.offer.serial, state.writer.transfer
        return [Send(state.writer.peer, Revoke(*ids, state.reason))]

    def _confirm(self, state: Confirming, now: float) -> list[Effect]:
        """Tell the lender that we have read, and ask whether we were in time."""
        waiting = msgspec.structs.replace(state, expires_at=now + self._lease_s)
        self._states[state.offer.serial] = waiting
        return [Send(state.writer.peer, state.taken)]

    def _arrived(self, state: State) -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Arrived(*offer.name, num_bytes=offer.num_bytes))]

    def _fenced(self, state: State, reason: str, kind: Reason = "transfer_failed") -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Fenced(*offer.name, reason, kind))]

    def _forget(self, state: State) -> Offer:
        del self._states[state.offer.serial], self._serials[state.offer.name]
        return state.offer
