"""The receiver's side of transfers: who may write our pages, and from when on nobody may.

```
            Open               Complete
granted ------------> opened ------------> Arrived
   |                    | revoked, or the lease ran out
   |                    v
   | revoked,        fencing
   | lease ran out      | Ceased, Complete, or the writer is lost
   +---------------> Fenced
```

A writer may turn lender: then we read its pages into ours.

```
           Lend              landed: Taken               Agreed
opened -----------> reading ----------------> confirming --------> Arrived
                       | revoked, recalled, no progress | Ceased,
                       v                                | lender lost
                  withdrawing -------------------> Fenced
                               landed: Refuse
```

What waits for an answer asks again after each lease without one: a single message may be lost.

Pages that a writer may know of are given back only when that writer said it has stopped, or is
gone: a put is one-sided, so nothing on our side could keep a late one out.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from bus.transfers import Arrived, Fenced, PoolShape

from .effects import Connect, Drop, Effect, Flush, Get, Name, Send, Tell, reading_number
from .granted import (
    TIMED,
    Confirming,
    Fencing,
    Granted,
    Offer,
    Reads,
    State,
    Used,
    Withdrawing,
    Writer,
)
from .opening import Life, objection, reads, refusal
from .protocol import (
    Agreed,
    Ceased,
    Complete,
    Done,
    FromSender,
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


class Receiver:
    """Every grant of this engine that has not ended, by its serial number."""

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

    def progressed(self, number: int, now: float, read_s: float = 0.0) -> list[Effect]:
        """Some of what we read came in, which took ``read_s``. The lender hears of it in time."""
        state = self._states.get(-number)
        if not isinstance(state, Reads):
            return []
        tell = now >= state.told_at + self._lease_s / 2
        self._states[-number] = msgspec.structs.replace(
            state,
            expires_at=now + self._lease_s,
            read_s=state.read_s + read_s,
            told_at=now if tell else state.told_at,
        )
        message = Reading(state.offer.serial, state.writer.transfer)
        return [Send(state.writer.peer, message)] if tell else []

    def flushed(self, number: int, lane: str, now: float) -> list[Effect]:
        """Nothing that we read is under way."""
        state = self._states.get(-number)
        if isinstance(state, Withdrawing):
            return [self._refused(state), *self._fenced(state, state.reason)]
        if not isinstance(state, Reads):
            return []
        ids = state.offer.serial, state.writer.transfer
        taken = Taken(*ids, state.num_runs, lane, state.read_s)
        return self._confirm(Confirming(state.offer, now, state.writer, taken), now)

    def received(self, peer: PeerId, message: FromSender, now: float) -> list[Effect]:
        if isinstance(message, Open):
            return self._open(peer, message, now)
        state = self._states.get(message.grant)
        writer = Writer(peer, message.transfer)
        ours = state is not None and not isinstance(state, Granted) and state.writer == writer
        match message:
            case Complete():
                return self._complete(state if ours else None, peer, message)
            case Lend():
                return self._lent(state if ours else None, peer, message, now)
            case Recall():
                return self._recalled(state if ours else None, peer, message, now)
            case Agreed() if isinstance(state, Confirming) and ours:
                return self._arrived(state)
            case Ceased() if isinstance(state, Reads | Withdrawing):
                return []  # of a copy: a lender ceases only after it heard from us
            case Ceased() if ours and state is not None:
                return self._fenced(state, self._reason(state, message))
            case Renew() if ours and isinstance(state, Used):
                renewed = Used(state.offer, now + self._lease_s, writer)
                self._states[message.grant] = renewed
                return []
            case Ceased() | Renew() | Agreed():
                return []  # of a grant that has ended: its fence is told already
            case _:
                assert_never(message)

    # --- Open: everything is checked before the first byte --------------------------------------

    def _open(self, peer: PeerId, message: Open, now: float) -> list[Effect]:
        if peer_id(message.address) != peer:
            return []  # nobody we could answer
        connect: list[Effect] = [Connect(message.address)]
        writer = Writer(peer, message.transfer)
        state = self._states.get(message.grant)
        if refused := refusal(self._life, state, message, writer):
            return [*connect, Send(peer, refused)]
        if isinstance(state, Granted) and now >= state.expires_at:
            ids = message.grant, message.transfer
            return [*connect, Send(peer, Refuse(*ids, "transfer_failed", "the grant expired"))]
        if isinstance(state, Granted | Used):
            self._states[message.grant] = Used(state.offer, now + self._lease_s, writer)
        return [*connect, Send(peer, Opened(message.grant, message.transfer))]

    # --- Lend: we read ----------------------------------------------------------------------------

    def _lent(self, state: State | None, peer: PeerId, message: Lend, now: float) -> list[Effect]:
        if isinstance(state, Reads | Confirming | Withdrawing):
            return []  # of a copy: the answer is on its way
        if not isinstance(state, Used):
            return self._complete(state, peer, message)
        if why_not := objection(self._shape, state.offer, message):
            refusal = Refuse(message.grant, message.transfer, "incompatible", why_not)
            return [Send(peer, refusal), *self._fenced(state, why_not)]
        runs = reads(self._shape, state.offer, message)
        number, expires_at = reading_number(message.grant), now + self._lease_s
        self._states[message.grant] = Reads(
            offer=state.offer,
            expires_at=expires_at,
            writer=state.writer,
            memory=message.memory,
            num_runs=sum(map(len, runs)),
            read_s=0.0,
            told_at=now,
        )
        gets = [Get(number, peer, message.memory, layer) for layer in runs]
        return [*gets, Flush(number, peer, message.memory)]

    def _recalled(
        self, state: State | None, peer: PeerId, message: Recall, now: float
    ) -> list[Effect]:
        match state:
            case Reads():
                return self._stop(state, message.reason, now)
            case Confirming():
                return self._confirm(state, now)
            case Withdrawing():
                return []  # the answer is on its way
            case Granted():
                state = None  # a copy: nobody that recalls was let in
        refusal = Refuse(message.grant, message.transfer, "no_such_flow", "the grant has ended")
        return [Send(peer, refusal), *(self._fenced(state, message.reason) if state else [])]

    def _confirm(self, state: Confirming, now: float) -> list[Effect]:
        """Tell the lender that we have read, and ask whether we were in time."""
        waiting = msgspec.structs.replace(state, expires_at=now + self._lease_s)
        self._states[state.offer.serial] = waiting
        return [Send(state.writer.peer, state.taken)]

    def _refused(self, state: Withdrawing) -> Send:
        ids = state.offer.serial, state.writer.transfer
        return Send(state.writer.peer, Refuse(*ids, "transfer_failed", state.reason))

    # --- endings --------------------------------------------------------------------------------

    def _complete(
        self, state: State | None, peer: PeerId, message: Complete | Lend
    ) -> list[Effect]:
        """The writer will write no more; a lender has not written at all."""
        if isinstance(state, Used) and isinstance(message, Complete):
            return [Send(peer, Done(message.grant, message.transfer)), *self._arrived(state)]
        refusal = Refuse(message.grant, message.transfer, "no_such_flow", "the grant was revoked")
        fenced = self._fenced(state, state.reason) if isinstance(state, Fencing) else []
        return [Send(peer, refusal), *fenced]

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
            case Fencing() | Confirming() | Withdrawing():
                return []

    def _fence(self, state: Fencing, now: float) -> list[Effect]:
        """Ask the writer to stop, and to say so."""
        waiting = msgspec.structs.replace(state, expires_at=now + self._lease_s)
        self._states[state.offer.serial] = waiting
        ids = state.offer.serial, state.writer.transfer
        return [Send(state.writer.peer, Revoke(*ids, state.reason))]

    def _arrived(self, state: State) -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Arrived(*offer.name, num_bytes=offer.num_bytes))]

    def _fenced(self, state: State, reason: str) -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Fenced(*offer.name, reason=reason))]

    def _forget(self, state: State) -> Offer:
        del self._states[state.offer.serial], self._serials[state.offer.name]
        return state.offer

    @staticmethod
    def _reason(state: State, message: Ceased) -> str:
        """Why we asked for it, or else why the sender stopped by itself."""
        return state.reason if isinstance(state, Fencing) else message.reason
