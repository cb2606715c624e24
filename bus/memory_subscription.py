"""One subscription of the in-memory bus: a bounded queue, and a task that calls the handler."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from .broker import Interest, MemoryBroker
from .handling import Handling
from .interface import Message, SubscriptionStatistics


class Tally(Struct):
    """What one bus counts."""

    published: int = 0
    published_bytes: int = 0
    received: int = 0
    dropped: int = 0
    reconnects: int = 0


class MemorySubscription:
    """`bus.interface.Subscription`. Made by `MemoryBus.subscribe` only.

    It is in ``peers``, the bus's subscriptions, for as long as its handler may run.
    """

    def __init__(
        self, handling: Handling, max_pending: int, peers: set[MemorySubscription], tally: Tally
    ) -> None:
        self._handling = handling
        self._peers = peers
        self._tally = tally
        self._num_received = 0
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(max_pending)
        self._pump = asyncio.create_task(self._run(), name=f"handler of {handling.subject}")

    def enlist(self, broker: MemoryBroker, interest: Interest) -> None:
        """From now on messages arrive."""
        self._broker, self._interest = broker, interest
        self._peers.add(self)
        broker.add(interest)

    def accept(self, message: Message) -> None:
        """For the broker: hold the message, or drop it where too many wait."""
        self._tally.received += 1
        self._num_received += 1
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self._tally.dropped += 1
            self._handling.drop()

    async def unsubscribe(self) -> None:
        self._handling.stop()
        self.retire()
        await self._handling.idle()
        await self.end()

    def retire(self) -> None:
        """Nothing arrives any more; what waits is still handled."""
        self._broker.remove(self._interest)

    async def finish(self) -> None:
        """Returns when the handler has seen every message that it is going to see."""
        if self._handling.stopped:
            await self._handling.idle()
        else:
            await self._waiting.join()

    async def end(self) -> None:
        """Cancel the handler and wait until it has ended; inside it, that is left to `_run`."""
        self._handling.stop()
        if not self._handling.inside():
            self._pump.cancel()
            await asyncio.wait([self._pump])
            self._peers.discard(self)

    def statistics(self) -> SubscriptionStatistics:
        return SubscriptionStatistics(
            subject=self._handling.subject,
            received=self._num_received,
            dropped=self._handling.dropped,
            failed=self._handling.failed,
            pending=self._waiting.qsize(),
        )

    async def _run(self) -> None:
        while not self._handling.stopped:
            message = await self._waiting.get()
            try:
                await self._handling.call(message)
            finally:
                self._waiting.task_done()
        self._peers.discard(self)
