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

Pages that a writer may know of are given back only when that writer said it has stopped, or is
gone: a put is one-sided, so nothing on our side could keep a late one out.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from msgspec import Struct

from bus.messages import Reason
from bus.transfers import Arrived, Fenced, PoolShape

from .effects import Connect, Drop, Effect, Flush, Get, Name, Send, Tell, reading_number
from .layout import Offsets, Runs, coalesce, differences, expand, num_pages_of, relay
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


class Offer(Struct, frozen=True, eq=False):
    """A grant as the one who made it remembers it."""

    name: Name
    serial: int
    begin: int
    end: int
    pages: Offsets
    num_bytes: int
    expires_at: float
    """Until then a writer may open it."""


class _Writer(Struct, frozen=True):
    peer: PeerId
    transfer: int


class _Granted(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float


class _Opened(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float
    writer: _Writer


class _Fencing(Struct, frozen=True, eq=False):
    offer: Offer
    writer: _Writer
    reason: str


class _Reading(Struct, frozen=True, eq=False):
    offer: Offer
    expires_at: float
    """When to give up, unless there is progress."""
    writer: _Writer
    memory: bytes
    num_runs: int
    read_s: float
    told_at: float
    """When the lender last heard of us."""


class _Confirming(Struct, frozen=True, eq=False):
    offer: Offer
    writer: _Writer


class _Withdrawing(Struct, frozen=True, eq=False):
    offer: Offer
    writer: _Writer
    reason: str


_State = _Granted | _Opened | _Fencing | _Reading | _Confirming | _Withdrawing
_TIMED = (_Granted, _Opened, _Reading)


class Receiver:
    """Every grant of this engine that has not ended, by its serial number."""

    def __init__(self, engine: str, epoch: int, lease_s: float, shape: PoolShape) -> None:
        self._engine, self._epoch, self._lease_s = engine, epoch, lease_s
        self._shape = shape
        self._states: dict[int, _State] = {}
        self._serials: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._states)

    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing changes before."""
        return min(
            (s.expires_at for s in self._states.values() if isinstance(s, _TIMED)),
            default=None,
        )

    def grant(self, offer: Offer) -> list[Effect]:
        self._states[offer.serial] = _Granted(offer, offer.expires_at)
        self._serials[offer.name] = offer.serial
        return []

    def revoke(self, name: Name, reason: str) -> list[Effect]:
        serial = self._serials.get(name)
        return [] if serial is None else self._stop(self._states[serial], reason)

    def revoke_all(self, reason: str) -> list[Effect]:
        return [e for state in list(self._states.values()) for e in self._stop(state, reason)]

    def abandon(self, reason: str) -> list[Effect]:
        """The pool itself goes away, so that there is nothing left to protect."""
        return [e for state in list(self._states.values()) for e in self._fenced(state, reason)]

    def tick(self, now: float) -> list[Effect]:
        overdue = [
            state
            for state in self._states.values()
            if isinstance(state, _TIMED) and now >= state.expires_at
        ]
        return [e for state in overdue for e in self._stop(state, "the lease ran out")]

    def lost(self, peer: PeerId) -> list[Effect]:
        gone = [
            state
            for state in self._states.values()
            if not isinstance(state, _Granted) and state.writer.peer == peer
        ]
        return [e for state in gone for e in self._fenced(state, "the sender was lost")]

    def progressed(self, number: int, now: float, read_s: float = 0.0) -> list[Effect]:
        """Some of what we read came in, which took ``read_s``. The lender hears of it in time."""
        state = self._states.get(-number)
        if not isinstance(state, _Reading):
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

    def flushed(self, number: int, lane: str) -> list[Effect]:
        """Nothing that we read is under way."""
        state = self._states.get(-number)
        if isinstance(state, _Withdrawing):
            return [self._refused(state), *self._fenced(state, state.reason)]
        if not isinstance(state, _Reading):
            return []
        self._states[-number] = _Confirming(state.offer, state.writer)
        ids = state.offer.serial, state.writer.transfer
        return [Send(state.writer.peer, Taken(*ids, state.num_runs, lane, state.read_s))]

    def received(self, peer: PeerId, message: FromSender, now: float) -> list[Effect]:
        if isinstance(message, Open):
            return self._open(peer, message, now)
        state = self._states.get(message.grant)
        writer = _Writer(peer, message.transfer)
        ours = state is not None and not isinstance(state, _Granted) and state.writer == writer
        match message:
            case Complete():
                return self._complete(state if ours else None, peer, message)
            case Lend():
                return self._lent(state if ours else None, peer, message, now)
            case Recall():
                return self._recalled(state if ours else None, peer, message)
            case Agreed() if isinstance(state, _Confirming) and ours:
                return self._arrived(state)
            case Ceased() if isinstance(state, _Reading | _Withdrawing):
                return []  # of a copy: a lender ceases only after it heard from us
            case Ceased() if ours and state is not None:
                return self._fenced(state, self._reason(state, message))
            case Renew() if ours and isinstance(state, _Opened):
                renewed = _Opened(state.offer, now + self._lease_s, writer)
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
        writer = _Writer(peer, message.transfer)
        if refusal := self._refusal(message, writer, now):
            return [*connect, Send(peer, refusal)]
        state = self._states[message.grant]
        if isinstance(state, _Granted | _Opened):
            self._states[message.grant] = _Opened(state.offer, now + self._lease_s, writer)
        return [*connect, Send(peer, Opened(message.grant, message.transfer))]

    def _refusal(self, message: Open, writer: _Writer, now: float) -> Refuse | None:
        def refuse(reason: Reason, text: str) -> Refuse:
            return Refuse(message.grant, message.transfer, reason, text)

        if (message.engine, message.epoch) != (self._engine, self._epoch):
            return refuse(
                "stale_epoch",
                f"the grant is of engine {message.engine!r} in epoch {message.epoch}; this is"
                f" {self._engine!r} in epoch {self._epoch}",
            )
        state = self._states.get(message.grant)
        if state is None or isinstance(state, _Fencing):
            return refuse("no_such_flow", "the grant has ended: it was used, revoked or expired")
        offer = state.offer
        if (message.flow, message.attempt) != offer.name:
            return refuse("stale_attempt", f"the grant is for attempt {offer.name!r}")
        if (message.begin, message.end) != (offer.begin, offer.end):
            return refuse("bad_range", f"the grant is for tokens [{offer.begin}, {offer.end})")
        if not isinstance(state, _Granted):
            same = state.writer == writer
            return None if same else refuse("out_of_order", "the grant is in use already")
        return refuse("transfer_failed", "the grant expired") if now >= state.expires_at else None

    # --- Lend: we read ----------------------------------------------------------------------------

    def _lent(self, state: _State | None, peer: PeerId, message: Lend, now: float) -> list[Effect]:
        if isinstance(state, _Reading | _Confirming | _Withdrawing):
            return []  # of a copy: the answer is on its way
        if not isinstance(state, _Opened):
            return self._complete(state, peer, message)
        if why_not := self._objection(state.offer, message):
            refusal = Refuse(message.grant, message.transfer, "incompatible", why_not)
            return [Send(peer, refusal), *self._fenced(state, why_not)]
        runs = self._runs(state.offer, message)
        number, expires_at = reading_number(message.grant), now + self._lease_s
        self._states[message.grant] = _Reading(
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

    def _objection(self, offer: Offer, message: Lend) -> str:
        if unlike := differences(self._shape, message.shape):
            return "the pages that were lent do not fit: " + "; ".join(unlike)
        lent = sum(count for _, count in message.pages)
        expected = num_pages_of(message.shape, offer.begin, offer.end)
        return "" if lent == expected else f"{lent} pages were lent, {expected} are granted"

    def _runs(self, offer: Offer, message: Lend) -> list[Runs]:
        theirs = expand(message.pages)
        layers = range(self._shape.num_layers)
        if message.shape.page_size != self._shape.page_size:
            pages = theirs, offer.pages
            return [relay(message.shape, self._shape, n, 0, pages).reversed() for n in layers]
        return [coalesce(self._shape, message.shape, n, offer.pages, theirs) for n in layers]

    def _recalled(self, state: _State | None, peer: PeerId, message: Recall) -> list[Effect]:
        if isinstance(state, _Reading):
            return self._stop(state, message.reason)
        if isinstance(state, _Withdrawing | _Confirming):
            return []  # the answer is on its way
        refusal = Refuse(message.grant, message.transfer, "no_such_flow", "the grant has ended")
        return [Send(peer, refusal)]

    def _refused(self, state: _Withdrawing) -> Send:
        ids = state.offer.serial, state.writer.transfer
        return Send(state.writer.peer, Refuse(*ids, "transfer_failed", state.reason))

    # --- endings --------------------------------------------------------------------------------

    def _complete(
        self, state: _State | None, peer: PeerId, message: Complete | Lend
    ) -> list[Effect]:
        """The writer will write no more; a lender has not written at all."""
        if isinstance(state, _Opened) and isinstance(message, Complete):
            return [Send(peer, Done(message.grant, message.transfer)), *self._arrived(state)]
        refusal = Refuse(message.grant, message.transfer, "no_such_flow", "the grant was revoked")
        fenced = self._fenced(state, state.reason) if isinstance(state, _Fencing) else []
        return [Send(peer, refusal), *fenced]

    def _stop(self, state: _State, reason: str) -> list[Effect]:
        match state:
            case _Granted():
                return self._fenced(state, reason)
            case _Opened(offer, _, writer):
                self._states[offer.serial] = _Fencing(offer, writer, reason)
                revoke = Revoke(offer.serial, writer.transfer, reason)
                return [Send(writer.peer, revoke)]
            case _Reading(offer=offer, writer=writer, memory=memory):
                self._states[offer.serial] = _Withdrawing(offer, writer, reason)
                number = reading_number(offer.serial)
                return [Drop(number), Flush(number, writer.peer, memory)]
            case _Fencing() | _Confirming() | _Withdrawing():
                return []

    def _arrived(self, state: _State) -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Arrived(*offer.name, num_bytes=offer.num_bytes))]

    def _fenced(self, state: _State, reason: str) -> list[Effect]:
        offer = self._forget(state)
        return [Tell(Fenced(*offer.name, reason=reason))]

    def _forget(self, state: _State) -> Offer:
        del self._states[state.offer.serial], self._serials[state.offer.name]
        return state.offer

    @staticmethod
    def _reason(state: _State, message: Ceased) -> str:
        """Why we asked for it, or else why the sender stopped by itself."""
        return state.reason if isinstance(state, _Fencing) else message.reason
