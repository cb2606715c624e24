"""The changes of a bucket as they are made: a knock at the door, then a look at what is there.

Every write to a bucket is published on the key's own subject, so a plain subscription hears of it
at once: also of one that is going to be refused, and sometimes before it is stored. So what is
heard is only a reason to read what came after the last revision that was seen. Where nothing is
heard we look all the same, now and then: a broken connection or a restarted server costs seconds,
never a change.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from .buckets import Entry, Watcher
from .handling import Handling
from .interface import Bus, BusError, Message, Subscription, SubscriptionStatistics
from .jetstream_reads import Stored

LOOK_EVERY_S: Final = 2.0
LOOK_AGAIN_S: Final = (0.0, 0.005, 0.02, 0.1)
"""When to look after a knock: the write may not be stored yet."""


class JetStreamWatch:
    """`bus.interface.Subscription`. Made by `bus.jetstream` only; `start` first."""

    def __init__(self, bus: Bus, stored: Stored, pattern: str, watcher: Watcher) -> None:
        self._bus, self._stored, self._pattern = bus, stored, pattern
        self._newest = 0
        """The last revision seen."""
        self._num_received = 0
        self._entry: Entry
        self._knocked = asyncio.Event()
        self._subscription: Subscription | None = None
        self._looking: asyncio.Task[None] | None = None

        async def handle(_: Message) -> None:
            await watcher(self._entry)

        self._handling = Handling(stored.prefix + pattern, handle)

    async def start(self) -> None:
        """Returns when the watcher has seen all that there was.

        Raises:
            StoreFailed, BusError: there is no watch.
        """
        self._subscription = await self._bus.subscribe(self._handling.subject, self._on_write)
        try:
            for entry in await self._stored.newest(self._pattern):
                await self._show(entry)
        except BaseException:
            await self._subscription.unsubscribe()
            raise
        self._looking = asyncio.create_task(self._look(), name=f"watch {self._handling.subject}")

    async def unsubscribe(self) -> None:
        self._handling.stop()
        if self._subscription is not None:
            await self._subscription.unsubscribe()
        await self._handling.idle()
        if self._looking is not None and not self._handling.inside():
            self._looking.cancel()
            await asyncio.wait([self._looking])

    def statistics(self) -> SubscriptionStatistics:
        handling = self._handling
        return SubscriptionStatistics(
            handling.subject, self._num_received, handling.dropped, handling.failed, 0
        )

    async def _on_write(self, _: Message) -> None:
        self._knocked.set()

    async def _look(self) -> None:
        while not self._handling.stopped:
            pauses_s = LOOK_AGAIN_S if self._knocked.is_set() else LOOK_AGAIN_S[:1]
            self._knocked.clear()
            for pause_s in pauses_s:
                await asyncio.sleep(pause_s)
                if await self._news():
                    break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._knocked.wait()

    async def _news(self) -> bool:
        """Show what is new. A broker that is away keeps it for later."""
        try:
            entries = await self._stored.since(self._newest, self._pattern)
        except BusError:
            return False
        for entry in entries:
            await self._show(entry)
        return bool(entries)

    async def _show(self, entry: Entry) -> None:
        self._newest = entry.revision
        self._num_received += 1
        self._entry = entry
        await self._handling.call(Message(entry.key, entry.value))
