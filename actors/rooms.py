"""Which engines have not the pages for so many tokens: found without looking at those that have."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from math import inf


class Rooms:
    """Pure. Engines in the order of the tokens that they have pages for."""

    def __init__(self) -> None:
        self._ordered: list[tuple[float, str]] = []
        self._room: dict[str, float] = {}

    def put(self, name: str, free_pages: int, total_pages: int, page_size: int) -> None:
        """How it is now. One that is empty has room for anything: more pages than all of its own no
        request can use."""
        room = inf if free_pages >= total_pages else free_pages * page_size
        if self._room.get(name) == room:
            return
        self.drop(name)
        self._room[name] = room
        insort(self._ordered, (room, name))

    def drop(self, name: str) -> None:
        """It is gone; where it was not there, nothing changes."""
        room = self._room.pop(name, None)
        if room is not None:
            del self._ordered[bisect_left(self._ordered, (room, name))]

    def short(self, num_tokens: int) -> Iterator[str]:
        """Those that have not the pages for so many tokens."""
        for room, name in self._ordered:
            if room >= num_tokens:
                return
            yield name
