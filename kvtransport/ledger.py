"""Both sides of the transfer protocol for one engine: a state machine without clock or network.

Every call returns the effects that it has; time comes as an argument. The rules are told in
`kvtransport.receiving` and `kvtransport.sending`. What they add up to:

* every grant ends in exactly one of `Arrived` and `Fenced`, every opened transfer in exactly one of
  `Delivered` and `SendFailed`, whoever dies, if the transport tells who is lost;
* after `Arrived` or `Fenced` nobody writes the granted pages.
"""

from __future__ import annotations

from bus.transfers import PoolShape

from .effects import Effect, Name
from .grants import Grant
from .protocol import AnyProtocolMessage, Ceased, Complete, Open, Renew
from .receiving import Offer, Receiver
from .sending import Sender, Write
from .transport import PeerId


class Ledger:
    """Names, (flow, attempt), are unique among what has not ended: the caller sees to it."""

    def __init__(
        self, engine: str, epoch: int, lease_s: float, address: bytes, shape: PoolShape
    ) -> None:
        self._receiver = Receiver(engine, epoch, lease_s)
        self._sender = Sender(address, shape)

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

    def revoke(self, name: Name, reason: str) -> list[Effect]:
        return self._receiver.revoke(name, reason)

    def open(self, grant: Grant, now: float) -> list[Effect]:
        return self._sender.open(grant, now)

    def write(self, name: Name, write: Write, now: float) -> list[Effect]:
        return self._sender.write(name, write, now)

    def finish(self, name: Name, now: float) -> list[Effect]:
        return self._sender.finish(name, now)

    def abort(self, name: Name, reason: str, now: float) -> list[Effect]:
        return self._sender.abort(name, reason, now)

    def stop(self, reason: str, now: float) -> list[Effect]:
        """Revoke and abort everything."""
        return self._receiver.revoke_all(reason) + self._sender.abort_all(reason, now)

    def abandon(self, reason: str) -> list[Effect]:
        """End everything at once, because the pool is gone or about to go."""
        return self._receiver.abandon(reason) + self._sender.abandon(reason)

    def received(self, peer: PeerId, message: AnyProtocolMessage, now: float) -> list[Effect]:
        if isinstance(message, Open | Renew | Complete | Ceased):
            return self._receiver.received(peer, message, now)
        return self._sender.received(peer, message, now)

    def progressed(self, transfer: int, now: float, write_s: float = 0.0) -> list[Effect]:
        return self._sender.progressed(transfer, now, write_s)

    def flushed(self, transfer: int, lane: str, now: float) -> list[Effect]:
        return self._sender.flushed(transfer, lane, now)

    def lost(self, peer: PeerId) -> list[Effect]:
        return self._receiver.lost(peer) + self._sender.lost(peer)

    def tick(self, now: float) -> list[Effect]:
        return self._receiver.tick(now) + self._sender.tick(now)
