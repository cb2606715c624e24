"""Which engine has how much of a prompt: what is asked of an index, and one without events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

MAX_PAGES: Final = 200_000
"""Pages that `SentIndex` remembers: some 50 MB."""


class PrefixIndex(Protocol):
    """Pages are known by their hashes (`bus.prefixes`). Pure, and in memory."""

    def find(self, hashes: Sequence[int]) -> Mapping[str, int]:
        """How many pages at the start of this chain each engine has; those that have none are left
        out. Takes time for the pages that somebody has, not for the engines there are."""
        ...

    def forget(self, engine: str) -> None:
        """It is gone, and so is what it had."""
        ...


class Holders:
    """Who has which page. What both indexes are made of."""

    def __init__(self) -> None:
        self._holders: OrderedDict[int, tuple[str, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def add(self, page_hash: int, engine: str) -> None:
        """Counts as a use of the page."""
        holders = self._holders.get(page_hash, ())
        if engine not in holders:
            self._holders[page_hash] = (*holders, engine)
        self._holders.move_to_end(page_hash)

    def remove(self, page_hash: int, engine: str) -> None:
        """Where it has not got it, nothing changes."""
        holders = self._holders.get(page_hash, ())
        left = tuple(holder for holder in holders if holder != engine)
        if left:
            self._holders[page_hash] = left
        elif holders:
            del self._holders[page_hash]

    def drop_oldest(self) -> None:
        """Forget the page whose last use is longest ago."""
        self._holders.popitem(last=False)

    def forget(self, engine: str) -> None:
        for page_hash in [h for h, holders in self._holders.items() if engine in holders]:
            self.remove(page_hash, engine)

    def find(self, hashes: Sequence[int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for depth, page_hash in enumerate(hashes):
            on_the_path = [e for e in self._holders.get(page_hash, ()) if found.get(e, 0) == depth]
            if not on_the_path:
                break
            for engine in on_the_path:
                found[engine] = depth + 1
        return found


class SentIndex:
    """What was sent where, taken for what is there. It knows of prompts before they are computed,
    and does not know what was evicted: the oldest pages are forgotten at ``max_pages``."""

    def __init__(self, max_pages: int = MAX_PAGES) -> None:
        self._max_pages = max_pages
        self._holders = Holders()

    def sent(self, engine: str, hashes: Sequence[int]) -> None:
        """This engine was asked for this prompt. Its beginning is remembered longest."""
        for page_hash in reversed(hashes):
            self._holders.add(page_hash, engine)
        while len(self._holders) > self._max_pages:
            self._holders.drop_oldest()

    def evicted(self, engine: str, hashes: Sequence[int]) -> None:
        """For whoever does hear of it."""
        for page_hash in hashes:
            self._holders.remove(page_hash, engine)

    def find(self, hashes: Sequence[int]) -> dict[str, int]:
        return self._holders.find(hashes)

    def forget(self, engine: str) -> None:
        self._holders.forget(engine)


class BothIndexes:
    """The better of what several indexes know of each engine."""

    def __init__(self, *indexes: PrefixIndex) -> None:
        self._indexes = indexes

    def find(self, hashes: Sequence[int]) -> dict[str, int]:
        best: dict[str, int] = {}
        for index in self._indexes:
            for engine, pages in index.find(hashes).items():
                best[engine] = max(pages, best.get(engine, 0))
        return best

    def forget(self, engine: str) -> None:
        for index in self._indexes:
            index.forget(engine)
