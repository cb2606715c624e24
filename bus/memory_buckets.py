"""Buckets without a broker: the in-process twin of `bus.jetstream`, with the same guarantees."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable
from itertools import count

from .buckets import BucketConfig, Entry, StoreFailed, Watcher, WrongRevision, check_key
from .buckets import check_key_pattern as check_pattern
from .handling import Handling
from .interface import Message, SubscriptionStatistics
from .matching import matches


class MemoryBuckets:
    """What several actors of one process share. For one event loop."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._buckets: dict[str, MemoryKeyValue] = {}

    async def bucket(self, config: BucketConfig) -> MemoryKeyValue:
        found = self._buckets.get(config.name)
        if found is None:
            found = self._buckets[config.name] = MemoryKeyValue(config, self._clock)
        return found


class MemoryKeyValue:
    """`bus.buckets.KeyValue`. Made by `MemoryBuckets.bucket` only."""

    def __init__(self, config: BucketConfig, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self._revisions = count(1)
        self._kept: defaultdict[str, deque[Entry]] = defaultdict(
            lambda: deque(maxlen=config.history)
        )
        self._watches: set[_Watch] = set()

    async def get(self, key: str) -> Entry | None:
        check_key(key)
        newest = self._newest(key)
        return None if newest is None or newest.deleted else newest

    async def put(self, key: str, value: bytes) -> int:
        check_key(key)
        return self._write(key, value)

    async def create(self, key: str, value: bytes) -> int:
        check_key(key)
        newest = self._newest(key)
        if newest is not None and not newest.deleted:
            raise WrongRevision(self._config.name, key, 0)
        return self._write(key, value)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        check_key(key)
        newest = self._newest(key)
        if (newest.revision if newest else 0) != revision:
            raise WrongRevision(self._config.name, key, revision)
        return self._write(key, value)

    async def delete(self, key: str) -> None:
        check_key(key)
        self._write(key, b"", deleted=True)

    async def history(self, key: str) -> list[Entry]:
        check_key(key)
        return list(self._kept.get(key, ()))

    async def entries(self, pattern: str = ">") -> list[Entry]:
        check_pattern(pattern)
        return [entry for entry in self._matching(pattern) if not entry.deleted]

    async def watch(self, watcher: Watcher, pattern: str = ">") -> _Watch:
        check_pattern(pattern)
        watch = _Watch(pattern, watcher, self._watches)
        for entry in self._matching(pattern):
            watch.accept(entry)
        await watch.seen_all()
        return watch

    def _newest(self, key: str) -> Entry | None:
        kept = self._kept.get(key)
        return kept[-1] if kept else None

    def _matching(self, pattern: str) -> list[Entry]:
        found = [kept[-1] for key, kept in self._kept.items() if matches(pattern, key)]
        return sorted(found, key=lambda entry: entry.revision)

    def _write(self, key: str, value: bytes, deleted: bool = False) -> int:
        self._check_room(len(value))
        entry = Entry(key, bytes(value), next(self._revisions), self._clock(), deleted)
        self._kept[key].append(entry)
        for watch in self._watches:
            if matches(watch.pattern, key):
                watch.accept(entry)
        return entry.revision

    def _check_room(self, num_bytes: int) -> None:
        kept = sum(len(entry.value) for entries in self._kept.values() for entry in entries)
        if 0 <= self._config.max_bytes < kept + num_bytes:
            raise StoreFailed(f"bucket {self._config.name!r} is full: maximum bytes exceeded")


class _Watch:
    """`bus.interface.Subscription`: the changes that a watcher has not seen yet."""

    def __init__(self, pattern: str, watcher: Watcher, peers: set[_Watch]) -> None:
        self.pattern, self._peers = pattern, peers
        self._waiting: asyncio.Queue[Entry] = asyncio.Queue()
        self._num_received = 0
        self._entry: Entry

        async def handle(_: Message) -> None:
            await watcher(self._entry)

        self._handling = Handling(pattern, handle)
        self._pump = asyncio.create_task(self._run(), name=f"watcher of {pattern}")
        peers.add(self)

    def accept(self, entry: Entry) -> None:
        self._num_received += 1
        self._waiting.put_nowait(entry)

    async def seen_all(self) -> None:
        await self._waiting.join()

    async def unsubscribe(self) -> None:
        self._handling.stop()
        self._peers.discard(self)
        await self._handling.idle()
        if not self._handling.inside():
            self._pump.cancel()
            await asyncio.wait([self._pump])

    def statistics(self) -> SubscriptionStatistics:
        handling, waiting = self._handling, self._waiting.qsize()
        return SubscriptionStatistics(
            self.pattern, self._num_received, handling.dropped, handling.failed, waiting
        )

    async def _run(self) -> None:
        while not self._handling.stopped:
            self._entry = await self._waiting.get()
            try:
                await self._handling.call(Message(self._entry.key, self._entry.value))
            finally:
                self._waiting.task_done()
