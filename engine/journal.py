"""What came into the prefix cache and what left it, since somebody last asked."""

from __future__ import annotations

from msgspec import Struct


class CacheChanges(Struct, frozen=True):
    """Pages by their hash (`bus.prefixes`). None is in both."""

    stored: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()


class Journal:
    """Bounded by what there is to tell: a page that comes and goes many times is told once, as it
    is in the end."""

    def __init__(self) -> None:
        self._is_stored: dict[int, bool] = {}

    def stored(self, page_hash: int) -> None:
        self._is_stored[page_hash] = True

    def evicted(self, page_hash: int) -> None:
        self._is_stored[page_hash] = False

    def take(self) -> CacheChanges:
        """The changes since the last call."""
        told, self._is_stored = self._is_stored, {}
        return CacheChanges(
            tuple(h for h, stored in told.items() if stored),
            tuple(h for h, stored in told.items() if not stored),
        )
