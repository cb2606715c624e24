"""One subscription of the NATS bus. nats-py keeps its queue and the task that calls us."""

from __future__ import annotations

from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Native

from .handling import Handling
from .interface import Message, SubscriptionStatistics
from .sturdy import SturdyClient


class Heard(Struct, frozen=True):
    """A message as nats-py may keep it in its queues, at a fifth of the price of its own `Msg`."""

    data: bytes
    message: Message


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

    async def deliver(self, message: Msg | Heard) -> None:
        """For nats-py: handle one message."""
        heard = message.message if isinstance(message, Heard) else received(message)
        await self._handling.call(heard)
        if self._handling.stopped:
            await self.end()

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


def received(message: Msg) -> Message:
    return Message(message.subject, message.data, message.reply, message.headers or {})
