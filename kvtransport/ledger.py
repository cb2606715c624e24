"""Both sides of the transfer protocol for one engine: a state machine without clock or network.

Every call returns the effects that it has; time comes as an argument. The rules are told in
`kvtransport.receiving` and `kvtransport.steps`. What they add up to:

* every grant ends in exactly one of `Arrived` and `Fenced`, every opened transfer in exactly one of
  `Delivered` and `SendFailed`, whoever dies, if the transport tells who is lost;
* after `Arrived` or `Fenced` nobody writes the granted pages; after `Delivered` or `SendFailed`
  nobody reads the sender's, unless the connection broke: then no reader tells `Arrived`.
"""

from __future__ import annotations

from .effects import Effect, Name
from .granted import Offer
from .grants import Grant
from .layout import Offsets
from .outgoing import Write
from .protocol import (
    Agreed,
    AnyProtocolMessage,
    Ceased,
    Complete,
    Lend,
    Open,
    Recall,
    Renew,
)
from .receiving import Receiver
from .sending import Sender
from .transport import PeerId


class Ledger:
    """Names, (flow, attempt), are unique among what has not ended: the caller sees to it."""

    def __init__(self, receiver: Receiver, sender: Sender) -> None:
        self._receiver, self._sender = receiver, sender

    @property
    def num_receiving(self) -> int:
        return len(self._receiver)

    @property
    def num_sending(self) -> int:
        return len(self._sender)

    def deadline(self) -> float | None:
        """When `tick` is wanted at the latest; None while nothing is open."""
        deadlines = (self._receiver.deadline(), self._sender.deadline())
        return min((d for d in deadlines if d is not None), default=None)

    def grant(self, offer: Offer) -> list[Effect]:
        return self._receiver.grant(offer)

    def revoke(self, name: Name, reason: str, now: float) -> list[Effect]:
        return self._receiver.revoke(name, reason, now)

    def open(self, grant: Grant, now: float) -> list[Effect]:
        return self._sender.open(grant, now)

    def write(self, name: Name, write: Write, now: float) -> list[Effect]:
        return self._sender.write(name, write, now)

    def finish(self, name: Name, now: float) -> list[Effect]:
        return self._sender.finish(name, now)

    def lend(self, name: Name, pages: Offsets, now: float) -> list[Effect]:
        return self._sender.lend(name, pages, now)

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        return self._sender.abort(name, reason, now)

    def stop(self, reason: str, now: float) -> list[Effect]:
        """Revoke and abort everything."""
        return self._receiver.revoke_all(reason, now) + self._sender.abort_all(reason, now)

    def abandon(self, reason: str) -> list[Effect]:
        """End everything at once, because the pool is gone or about to go."""
        return self._receiver.abandon(reason) + self._sender.abandon(reason)

    def received(self, peer: PeerId, message: AnyProtocolMessage, now: float) -> list[Effect]:
        if isinstance(message, Open | Renew | Complete | Ceased | Lend | Recall | Agreed):
            return self._receiver.received(peer, message, now)
        return self._sender.received(peer, message, now)

    def progressed(self, number: int, now: float, seconds: float = 0.0) -> list[Effect]:
        """Of what an effect numbered so, which took that long."""
        side = self._sender if number > 0 else self._receiver
        return side.progressed(number, now, seconds)

    def flushed(self, number: int, lane: str, now: float) -> list[Effect]:
        if number > 0:
            return self._sender.flushed(number, lane, now)
        return self._receiver.flushed(number, lane, now)

    def summed(self, number: int, sums: bytes, now: float) -> list[Effect]:
        """The checksums that a `Sum` numbered so has asked for."""
        side = self._sender if number > 0 else self._receiver
        return side.summed(number, sums, now)

    def stuck(self, number: int, reason: str, now: float) -> list[Effect]:
        """Some of what an effect numbered so was to copy cannot be, and never will."""
        side = self._sender if number > 0 else self._receiver
        return side.stuck(number, reason, now)

    def lost(self, peer: PeerId) -> list[Effect]:
        return self._receiver.lost(peer) + self._sender.lost(peer)

    def tick(self, now: float) -> list[Effect]:
        return self._receiver.tick(now) + self._sender.tick(now)
