"""An engine tells routers what its prefix cache has: numbered changes, and all of it when asked."""

from __future__ import annotations

from typing import Final, Protocol

from bus.codec import encode
from bus.messages import CacheChanged
from bus.prefixes import pack
from bus.subjects import Subjects
from engine.journal import CacheChanges

from .effects import Publish

INTERVAL_S: Final = 0.05
"""Changes of so long a time travel together."""
MAX_PAGES: Final = 100_000
"""Of one message: 0.8 MB, less than what any broker takes."""


class Cache(Protocol):
    """What is told of: `engine.engine.Engine`."""

    def take_cache_changes(self) -> CacheChanges: ...

    def cached_hashes(self) -> tuple[int, ...]: ...


class CacheNews:
    """Pure. For whoever owns the engine at the moment: not while a step runs."""

    def __init__(self, engine: str, epoch: int, cache: Cache, subjects: Subjects) -> None:
        self._engine, self._epoch, self._cache = engine, epoch, cache
        self._subject = subjects.cache(engine)
        self._due_s = 0.0
        self.sequence = 0
        """Of the newest message."""

    def news(self, now: float) -> list[Publish]:
        """What has changed, unless something was told a moment ago."""
        if now < self._due_s:
            return []
        changes = self._cache.take_cache_changes()
        if not changes.stored and not changes.evicted:
            return []
        self._due_s = now + INTERVAL_S
        return [self._say(stored, evicted) for stored, evicted in _parts(changes)]

    def snapshot(self) -> list[Publish]:
        """Everything, the first message with ``reset``."""
        self._cache.take_cache_changes()
        parts = list(_parts(CacheChanges(self._cache.cached_hashes()))) or [((), ())]
        return [
            self._say(stored, evicted, reset=index == 0)
            for index, (stored, evicted) in enumerate(parts)
        ]

    def _say(
        self, stored: tuple[int, ...], evicted: tuple[int, ...], reset: bool = False
    ) -> Publish:
        self.sequence += 1
        changed = CacheChanged(
            self._engine, self._epoch, self.sequence, pack(stored), pack(evicted), reset
        )
        return Publish(self._subject, encode(changed))


def _parts(changes: CacheChanges) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    longest = max(len(changes.stored), len(changes.evicted))
    return [
        (changes.stored[i : i + MAX_PAGES], changes.evicted[i : i + MAX_PAGES])
        for i in range(0, longest, MAX_PAGES)
    ]
