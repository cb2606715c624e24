"""Keeps engines in order, one changed at a time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping

from msgspec import Struct

from .fleet import Engine, Role
from .ranked import NOMINAL_TOKENS_PER_S, Busy, Cell, Place, Ranked, busy


class _Open(Struct):
    """A `Cell` in the making."""

    role: Role
    group: str
    waits: list[Place]
    loads: list[Busy]
    rates: list[float]
    """As measured; 0 where they are not."""
    cell: Cell | None = None
    """What it was when it was last asked for, while that holds."""

    def add(self, engine: Engine) -> None:
        insort(self.waits, Place.of(engine))
        insort(self.loads, busy(engine))
        insort(self.rates, engine.prefill_tokens_per_s)
        self.cell = None

    def remove(self, engine: Engine) -> None:
        del self.waits[bisect_left(self.waits, Place.of(engine))]
        del self.loads[bisect_left(self.loads, busy(engine))]
        del self.rates[bisect_left(self.rates, engine.prefill_tokens_per_s)]
        self.cell = None

    def closed(self) -> Cell:
        if self.cell is None:
            is_measured = self.rates[0] > 0
            fastest = max(self.rates[-1], 0 if is_measured else NOMINAL_TOKENS_PER_S)
            waits, loads = tuple(self.waits), tuple(self.loads)
            self.cell = Cell(self.role, self.group, waits, loads, fastest, is_measured)
        return self.cell


class Ranking:
    """Engines in order, one changed at a time: that takes some microseconds, however many there
    are. What was given out as `Ranked` stays as it was."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}
        self._cells: dict[tuple[Role, str], _Open] = {}

    @property
    def engines(self) -> Mapping[str, Engine]:
        """By name, in the order of names."""
        return self._engines

    @property
    def fastest(self) -> float:
        """The highest rate that one of them has measured, in tokens/s; 0 where none has."""
        return max((cell.rates[-1] for cell in self._cells.values()), default=0.0)

    def put(self, engine: Engine) -> None:
        """A new one, or one that has changed; it has nothing cached, of nobody's prompt."""
        assert not engine.cached, engine.name
        before = self._engines.get(engine.name)
        if before == engine:
            return
        self._engines[engine.name] = engine
        if before is None:
            self._engines = dict(sorted(self._engines.items()))
        else:
            self._remove(before)
        key = engine.role, engine.group
        if key not in self._cells:
            self._cells[key] = _Open(*key, [], [], [])
        self._cells[key].add(engine)

    def drop(self, name: str) -> None:
        """It is gone."""
        self._remove(self._engines.pop(name))

    def ranked(self) -> Ranked:
        cells = tuple([self._cells[key].closed() for key in sorted(self._cells)])
        return Ranked(cells, self._engines.copy())

    def _remove(self, engine: Engine) -> None:
        key = engine.role, engine.group
        self._cells[key].remove(engine)
        if not self._cells[key].waits:
            del self._cells[key]
