"""What the page cache should do, written down naively: lists are searched, nothing is shared.

A *cell* is one place of a context's table: a prefix, where the page is the cached one of all tokens
up to its end, or a `Box`, a page that nobody can find.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

Prefix: TypeAlias = tuple[int, ...]


class Box:
    def __init__(self) -> None:
        self.references = 1


Cell: TypeAlias = Prefix | Box


@dataclass
class Row:
    """A context."""

    tokens: Prefix
    computed: int = 0
    cells: list[Cell] = field(default_factory=list)
    path: list[Prefix] = field(default_factory=list)
    """Cached prefixes that it refers to, each the content of the cell in the same place."""


class Model:
    def __init__(self, num_pages: int, size: int, num_slots: int, pinnable: int) -> None:
        self.size, self.free, self.num_slots, self.pinnable = size, num_pages, num_slots, pinnable
        self.references: Counter[Prefix] = Counter()
        self.cached: set[Prefix] = set()
        self.idle: list[Prefix] = []
        """Of ``cached``, those that nobody refers to; the longest unused first."""
        self.tier: list[Prefix] = []
        self.corrupt: set[Prefix] = set()
        self.pins: Counter[Prefix] = Counter()
        self.kept: set[Prefix] = set()

    @property
    def available(self) -> int:
        return self.free + len(self.idle)

    def prefixes(self, tokens: Prefix) -> list[Prefix]:
        size = self.size
        return [tokens[:end] for end in range(size, len(tokens) + 1, size)]

    # --- what contexts do ---

    def match(self, row: Row) -> None:
        todo = self.prefixes(row.tokens)
        while todo and todo[0] in self.cached:
            self.hold(todo[0])
            self._found(row, todo.pop(0))
        while todo and todo[0] in self.tier and self.available:
            self.take(1)
            if not self._comes_back(todo[0]):
                self.free += 1
                break
            self.publish(todo[0])
            self._found(row, todo.pop(0))
        row.computed = len(row.cells) * self.size

    def missing(self, row: Row, end: int) -> int:
        pages = -(-end // self.size)
        return max(0, pages - len(row.cells)) + (end > row.computed and self._is_shared(row))

    def compute(self, row: Row, end: int) -> None:
        if end > row.computed and self._is_shared(row):
            self.take(1)
            index = row.computed // self.size
            self.drop(row.cells[index])
            row.cells[index] = Box()
        more = max(0, -(-end // self.size) - len(row.cells))
        self.take(more)
        row.cells += [Box() for _ in range(more)]
        row.computed = end
        for index in range(len(row.path), end // self.size):
            prefix = row.tokens[: (index + 1) * self.size]
            if prefix in self.cached:
                self.hold(prefix)
            else:
                self.publish(prefix)
                row.cells[index] = prefix
            row.path.append(prefix)

    def fork(self, row: Row, num_tokens: int, end: int) -> Row:
        end = min(end, num_tokens, row.computed)
        child = Row(row.tokens[:num_tokens], end)
        for index in range(-(-end // self.size)):
            if index < end // self.size:
                child.path.append(row.path[index])
                if row.cells[index] != row.path[index]:
                    self.hold(row.path[index])
            self.hold(row.cells[index])
            child.cells.append(row.cells[index])
        return child

    def forget(self, row: Row) -> None:
        while row.path:
            last = row.path[-1]
            is_followed = any(other[: len(last)] == last != other for other in self.cached)
            if self.references[last] > 1 or is_followed:
                return
            index = len(row.path) - 1
            self.cached.remove(row.path.pop())
            if last in self.tier:
                self.tier.remove(last)
                self.corrupt.discard(last)
            del self.references[last]
            if row.cells[index] == last:
                row.cells[index] = Box()
            else:
                self.free += 1

    def let_go(self, row: Row) -> None:
        for index in reversed(range(len(row.cells))):
            if index < len(row.path) and row.path[index] != row.cells[index]:
                self.drop(row.path[index])
            self.drop(row.cells[index])

    # --- pins ---

    def may_pin(self, tokens: Prefix) -> bool:
        return len(set(self.pins) | set(self.prefixes(tokens))) <= self.pinnable

    def pin(self, tokens: Prefix) -> None:
        self.pins.update(self.prefixes(tokens))
        for prefix in self.prefixes(tokens):
            if prefix not in self.cached:
                break
            self._keep(prefix)

    def unpin(self, tokens: Prefix) -> None:
        for prefix in reversed(self.prefixes(tokens)):
            self.pins[prefix] -= 1
            if self.pins[prefix] == 0:
                del self.pins[prefix]
                if prefix in self.kept:
                    self.kept.remove(prefix)
                    self.drop(prefix)

    # --- pages ---

    def take(self, count: int) -> None:
        while self.free < count:
            prefix = self.idle.pop(0)
            self.cached.remove(prefix)
            self.free += 1
            self._save(prefix)
        self.free -= count

    def hold(self, cell: Cell) -> None:
        if isinstance(cell, Box):
            cell.references += 1
            return
        if cell in self.idle:
            self.idle.remove(cell)
        self.references[cell] += 1

    def drop(self, cell: Cell) -> None:
        if isinstance(cell, Box):
            cell.references -= 1
            self.free += cell.references == 0
            return
        self.references[cell] -= 1
        if self.references[cell] == 0:
            self.idle.append(cell)

    def publish(self, prefix: Prefix) -> None:
        self.cached.add(prefix)
        self.references[prefix] = 1
        self._keep(prefix)

    def _keep(self, prefix: Prefix) -> None:
        if prefix in self.pins and prefix not in self.kept:
            self.kept.add(prefix)
            self.hold(prefix)

    def _found(self, row: Row, prefix: Prefix) -> None:
        row.cells.append(prefix)
        row.path.append(prefix)

    def _is_shared(self, row: Row) -> bool:
        index = row.computed // self.size
        if index >= len(row.cells):
            return False
        cell = row.cells[index]
        return not isinstance(cell, Box) or cell.references > 1

    # --- the second tier ---

    def _save(self, prefix: Prefix) -> None:
        if prefix in self.tier or not self.num_slots:
            return
        if len(self.tier) == self.num_slots:
            self.corrupt.discard(self.tier.pop(0))
        self.tier.append(prefix)

    def _comes_back(self, prefix: Prefix) -> bool:
        if prefix not in self.tier:
            return False
        self.tier.remove(prefix)
        if prefix in self.corrupt:
            self.corrupt.remove(prefix)
            return False
        self.tier.append(prefix)
        return True
