"""One subscription of the NATS bus."""

from __future__ import annotations

from nats.aio.subscription import Subscription as Native

from .handling import Handling
from .interface import SubscriptionStatistics
from .sturdy import SturdyClient


class NatsSubscription:
    """`bus.interface.Subscription`. Made by `NatsBus.subscribe` only.

    It is in ``peers``, the bus's subscriptions, for as long as its handler may run.
    """

    _native: Native

    def __init__(
        self, client: SturdyClient, handling: Handling, peers: dict[Native, NatsSubscription]
    ) -> None:
        self._client = client
        self._handling = handling
        self._peers = peers

    def enlist(self, native: Native) -> None:
        self._native = native
        self._peers[native] = self

    def drop(self) -> None:
        """For the bus: a message was lost."""
        self._handling.drop()

    async def unsubscribe(self) -> None:
        if not self._handling.stopped:
            self._handling.stop()
            await self.retire()
        await self._handling.idle()
        if not self._handling.inside():
            await self.end()

    async def retire(self) -> None:
        """Nothing arrives any more; what waits is still handled."""
        await self._client.forget(self._native)

    async def finish(self) -> None:
        """Returns when the handler has seen every message that it is going to see."""
        if self._handling.stopped:
            await self._handling.idle()
        else:
            await self._client.finish(self._native)

    async def end(self) -> None:
        """Cancel the handler and wait until it has ended."""
        self._handling.stop()
        self._peers.pop(self._native, None)
        await self._client.end(self._native)

    def statistics(self) -> SubscriptionStatistics:
        return SubscriptionStatistics(
            subject=self._handling.subject,
            received=self._native.delivered,
            dropped=self._handling.dropped,
            failed=self._handling.failed,
            pending=self._native.pending_msgs,
        )
