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

Pages that a writer may know of are given back only when that writer said it has stopped, or is
gone: a put is one-sided, so nothing on our side could keep a late one out.
"""

from __future__ import annotations

from typing import assert_never

from msgspec import Struct

from bus.messages import Reason
from bus.transfers import Arrived, Fenced

from .effects import Connect, Effect, Name, Send, Tell
from .protocol import Ceased, Complete, Done, Open, Opened, Refuse, Renew, Revoke
from .transport import PeerId, peer_id


class Offer(Struct, frozen=True):
    """A grant as the one who made it remembers it."""

    name: Name
    serial: int
    begin: int
    end: int
    num_bytes: int
    expires_at: float
    """Until then a writer may open it."""


class _Writer(Struct, frozen=True):
    peer: PeerId
    transfer: int


class _Granted(Struct, frozen=True):
    offer: Offer
    expires_at: float


class _Opened(Struct, frozen=True):
    offer: Offer
    expires_at: float
    writer: _Writer


class _Fencing(Struct, frozen=True):
    offer: Offer
    writer: _Writer
    reason: str


_State = _Granted | _Opened | _Fencing


class Receiver:
    """Every grant of this engine that has not ended, by its serial number."""

    def __init__(self, engine: str, epoch: int, lease_s: float) -> None:
        self._engine, self._epoch, self._lease_s = engine, epoch, lease_s
        self._states: dict[int, _State] = {}
        self._serials: dict[Name, int] = {}

    def __len__(self) -> int:
        return len(self._states)

    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing changes before."""
        return min(
            (s.expires_at for s in self._states.values() if not isinstance(s, _Fencing)),
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
            if not isinstance(state, _Fencing) and now >= state.expires_at
        ]
        return [e for state in overdue for e in self._stop(state, "the lease ran out")]

    def lost(self, peer: PeerId) -> list[Effect]:
        gone = [
            state
            for state in self._states.values()
            if not isinstance(state, _Granted) and state.writer.peer == peer
        ]
        return [e for state in gone for e in self._fenced(state, "the sender was lost")]

    def received(
        self, peer: PeerId, message: Open | Renew | Complete | Ceased, now: float
    ) -> list[Effect]:
        if isinstance(message, Open):
            return self._open(peer, message, now)
        state = self._states.get(message.grant)
        writer = _Writer(peer, message.transfer)
        ours = state is not None and not isinstance(state, _Granted) and state.writer == writer
        match message:
            case Complete():
                return self._complete(state if ours else None, peer, message)
            case Ceased() if ours and state is not None:
                return self._fenced(state, self._reason(state, message))
            case Renew() if ours and isinstance(state, _Opened):
                renewed = _Opened(state.offer, now + self._lease_s, writer)
                self._states[message.grant] = renewed
                return []
            case Ceased() | Renew():
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
        offer = self._states[message.grant].offer
        self._states[message.grant] = _Opened(offer, now + self._lease_s, writer)
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
        if isinstance(state, _Opened):
            same = state.writer == writer
            return None if same else refuse("out_of_order", "the grant is in use already")
        return refuse("transfer_failed", "the grant expired") if now >= state.expires_at else None

    # --- endings --------------------------------------------------------------------------------

    def _complete(self, state: _State | None, peer: PeerId, message: Complete) -> list[Effect]:
        if isinstance(state, _Opened):
            offer = self._forget(state)
            done = Send(peer, Done(message.grant, message.transfer))
            return [done, Tell(Arrived(*offer.name, num_bytes=offer.num_bytes))]
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
            case _Fencing():
                return []

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
