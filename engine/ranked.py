"""Things in the order of their ranks: the first and the last are at hand, nothing is searched."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from .rank import Rank

SLACK = 64
"""Forgotten entries that a heap may hold however few others there are."""


class HasRank(Protocol):
    @property
    def rank(self) -> Rank: ...


T = TypeVar("T", bound=HasRank)


class Ranked(Generic[T]):
    """A set of things whose ranks differ. Every call takes time logarithmic in its size, amortised.

    Two heaps of ranks, lowest and highest first, over one dictionary. Who leaves is taken out of
    the dictionary only; its entries in the heaps are passed over when they come to the top, or are
    swept out when more than half of a heap is such.
    """

    def __init__(self) -> None:
        self._members: dict[Rank, T] = {}
        self._lowest: list[Rank] = []
        self._highest: list[Rank] = []

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[T]:
        """In no particular order."""
        return iter(self._members.values())

    def __contains__(self, thing: T) -> bool:
        return self._members.get(thing.rank) is thing

    @property
    def first(self) -> T | None:
        """Who goes before all others."""
        while self._lowest:
            if self._lowest[0] in self._members:
                return self._members[self._lowest[0]]
            heappop(self._lowest)
        return None

    @property
    def last(self) -> T | None:
        """Who comes after all others."""
        while self._highest:
            rank = self._highest[0].turned()
            if rank in self._members:
                return self._members[rank]
            heappop(self._highest)
        return None

    def add(self, thing: T) -> None:
        assert self._members.get(thing.rank, thing) is thing, f"two things of rank {thing.rank}"
        if thing in self:
            return
        self._members[thing.rank] = thing
        heappush(self._lowest, thing.rank)
        heappush(self._highest, thing.rank.turned())

    def discard(self, thing: T) -> None:
        """Nothing happens where it is not here."""
        if thing not in self:
            return
        del self._members[thing.rank]
        if len(self._lowest) > 2 * len(self) + SLACK:
            self._lowest = list(self._members)
            heapify(self._lowest)
        if len(self._highest) > 2 * len(self) + SLACK:
            self._highest = [rank.turned() for rank in self._members]
            heapify(self._highest)
