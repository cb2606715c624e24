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

With checksums, `Complete` leads to checking, and from there to Arrived or, where they are wrong, to
Fenced; what was read is summed up before it is Taken, and the lender compares.

What waits for an answer asks again after each lease without one: a single message may be lost.

Pages that a writer may know of are given back only when that writer said it has stopped, or is
gone: a put is one-sided, so nothing on our side could keep a late one out.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from bus.transfers import PoolShape

from .effects import Connect, Effect, Flush, Get, Send, Sum, reading_number
from .granted import (
    CORRUPT,
    Checking,
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
from .granting import Grants
from .opening import objection, reads, refusal
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
    Taken,
)
from .transport import PeerId, peer_id


class Receiver(Grants):
    """What becomes of each grant when its writer speaks, or what we read comes in."""

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

    def stuck(self, number: int, reason: str, now: float) -> list[Effect]:
        """Some of what the lender has told us to read is not there."""
        state = self._states.get(-number)
        return self._stop(state, reason, now) if isinstance(state, Reads) else []

    def flushed(self, number: int, lane: str, now: float) -> list[Effect]:
        """Nothing that we read is under way."""
        state = self._states.get(-number)
        if isinstance(state, Withdrawing):
            return [self._refused(state), *self._fenced(state, state.reason)]
        if not isinstance(state, Reads):
            return []
        self._states[-number] = state = msgspec.structs.replace(state, lane=lane)
        return [_sum(state.offer, self._shape)] if state.checked else self._taken(state, b"", now)

    def summed(self, number: int, sums: bytes, now: float) -> list[Effect]:
        """The checksums of what came for a grant."""
        state = self._states.get(-number)
        if isinstance(state, Reads) and state.lane:
            return self._taken(state, sums, now)
        return self._checked(state, sums) if isinstance(state, Checking) else []

    def _checked(self, state: Checking, sums: bytes) -> list[Effect]:
        peer, ids = state.writer.peer, (state.offer.serial, state.writer.transfer)
        if sums == state.sums:
            return [Send(peer, Done(*ids)), *self._arrived(state)]
        refusal = Refuse(*ids, "corrupt", CORRUPT)
        return [Send(peer, refusal), *self._fenced(state, CORRUPT, "corrupt")]

    def _taken(self, state: Reads, sums: bytes, now: float) -> list[Effect]:
        ids = state.offer.serial, state.writer.transfer
        taken = Taken(*ids, state.num_runs, state.lane, state.read_s, sums)
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
                reason = state.reason if isinstance(state, Fencing) else message.reason
                return self._fenced(state, reason, message.kind)
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
            checked=message.checked,
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

    def _refused(self, state: Withdrawing) -> Send:
        ids = state.offer.serial, state.writer.transfer
        return Send(state.writer.peer, Refuse(*ids, "transfer_failed", state.reason))

    # --- endings --------------------------------------------------------------------------------

    def _complete(
        self, state: State | None, peer: PeerId, message: Complete | Lend
    ) -> list[Effect]:
        """The writer will write no more; a lender has not written at all."""
        if isinstance(state, Checking):
            return []  # of a copy: the answer is on its way
        if isinstance(state, Used) and isinstance(message, Complete):
            return self._completed(state, message)
        refusal = Refuse(message.grant, message.transfer, "no_such_flow", "the grant was revoked")
        fenced = self._fenced(state, state.reason) if isinstance(state, Fencing) else []
        return [Send(peer, refusal), *fenced]

    def _completed(self, state: Used, message: Complete) -> list[Effect]:
        offer, writer = state.offer, state.writer
        if offer.checked or message.sums:
            self._states[offer.serial] = Checking(offer, writer, message.sums)
            return [_sum(offer, self._shape)]
        return [Send(writer.peer, Done(message.grant, message.transfer)), *self._arrived(state)]


def _sum(offer: Offer, shape: PoolShape) -> Sum:
    return Sum(reading_number(offer.serial), offer.pages, offer.end - offer.begin, shape)
