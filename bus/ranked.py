"""Engines in the order in which they would be done with a prompt, so that to choose among thousands
takes hardly longer than among a few.

How long an engine takes for a prompt of ``n`` tokens is a line over ``n``:

```
wait_s(n) = behind / rate + n / rate      behind: tokens that come before it there
            |-- idle_s --|
```

Engines are kept in the order of ``idle_s``. Whoever looks for the shortest wait goes along it, and
stops where even the fastest of all engines could not make up for what has been waited already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

if TYPE_CHECKING:
    from .fleet import Engine, Role

NOMINAL_TOKENS_PER_S: Final = 1000.0
"""How fast an engine prefills that has not measured itself yet."""
TOKENS_PER_REQUEST: Final = 64
"""What a request that an engine has counts for, in tokens of somebody's prompt: it is in the way of
what comes after it, if only by a step at a time."""
DAYS: Final = 10**9
"""Tokens that no engine computes in an hour: what is before an engine's next request where it has
no credit."""
ROLES: Final = ("prefill", "decode", "both")
ROUNDING: Final = 1 + 1e-9
"""The bound is computed otherwise than the waits, and must not be larger by a last digit."""


class Wait(NamedTuple):
    """In the order in which engines are chosen: ties go by name."""

    wait_s: float
    name: str


NOBODY: Final = Wait(inf, "")


class Place(NamedTuple):
    """One engine in the order of waits; of those with nothing to do the fastest comes first."""

    idle_s: float
    minus_rate: float
    name: str
    behind: int

    @staticmethod
    def of(engine: Engine) -> Place:
        rate, tokens = rate_of(engine), behind(engine)
        return Place(tokens / rate, -rate, engine.name, tokens)


Busy = tuple[bool, int, str]
"""(has no credit, load, name)."""


def rate_of(engine: Engine) -> float:
    return engine.prefill_tokens_per_s or NOMINAL_TOKENS_PER_S


def behind(engine: Engine) -> int:
    """Tokens that come before those of a further request."""
    if engine.credits <= 0:
        return DAYS
    return engine.waiting_tokens + TOKENS_PER_REQUEST * engine.load


def busy(engine: Engine) -> Busy:
    """In this order the engines of least load come first, and those without credit last."""
    return engine.credits <= 0, engine.load, engine.name


def first_two(engines: Sequence[Engine], num_tokens: int) -> tuple[Wait, Wait]:
    """The two with the shortest waits; `NOBODY` where there is none. Looks at every one of them, in
    line."""
    first = second = NOBODY
    enough, each, nominal = inf, TOKENS_PER_REQUEST, NOMINAL_TOKENS_PER_S
    for e in engines:
        missing = num_tokens - e.cached
        before = e.waiting_tokens + each * e.load if e.credits > 0 else DAYS
        tokens = before + missing if missing > 0 else before
        wait_s = tokens / (e.prefill_tokens_per_s or nominal)
        if wait_s <= enough:
            here = Wait(wait_s, e.name)
            first, second = (here, first) if here < first else (first, min(here, second))
            enough = second.wait_s
    return first, second


class Cell(NamedTuple):
    """The engines of one role and one group."""

    role: Role
    group: str
    waits: tuple[Place, ...]
    loads: tuple[Busy, ...]
    fastest: float
    """Tokens/s of the fastest of them."""
    is_measured: bool
    """All of them have measured how fast they are."""


class Ranked(Struct, frozen=True):
    """A fleet's engines in order. The ``changed`` ones are otherwise for one flow, and those that
    are ``gone`` are left out of it; the others have nothing of its prompt cached."""

    cells: tuple[Cell, ...]
    base: Mapping[str, Engine]
    """By name, in the order of names, and as they are in the cells."""
    changed: Mapping[str, Engine] = {}
    gone: frozenset[str] = frozenset()
    group: str | None = None
    """The only one whose engines there are; None: all of them."""

    def for_flow(self, changed: Mapping[str, Engine]) -> Ranked:
        return Ranked(self.cells, self.base, changed)

    def without(self, name: str) -> Ranked:
        return replace(self, gone=self.gone | {name})

    def of_group(self, name: str) -> Ranked:
        cells = tuple([cell for cell in self.cells if cell.group == name])
        return replace(self, cells=cells, group=name)

    def engines(self) -> tuple[Engine, ...]:
        """All of them, in the order of names."""
        group, gone = self.group, self.gone
        merged = {**self.base, **self.changed} if self.changed else self.base
        found: Iterable[Engine] = merged.values()
        if group is not None:
            found = [engine for engine in found if engine.group == group]
        if gone:
            found = [engine for engine in found if engine.name not in gone]
        return tuple(found)

    def engine(self, name: str) -> Engine | None:
        engine = self.changed.get(name) or self.base.get(name)
        return engine if engine and self._has(engine) else None

    def first_two(self, role: Role, num_tokens: int) -> tuple[Wait, Wait]:
        """As the function of this name, of the engines that can play a role."""
        first, second = first_two(self._apart(role), num_tokens)
        for cell in self._cells(role):
            floor_s = num_tokens / cell.fastest
            for idle_s, minus_rate, name, before in cell.waits:
                if idle_s + floor_s > second.wait_s * ROUNDING:
                    break
                wait = Wait((before + num_tokens) / -minus_rate, name)
                if wait < second and not self._is_apart(name):
                    first, second = (wait, first) if wait < first else (first, wait)
        return first, second

    def least_loaded(self, role: Role) -> str:
        """The engine of least load, of those with credit where there is one; empty: nobody."""
        heads = [busy(e) for e in self._apart(role)]
        for cell in self._cells(role):
            heads += next(([b] for b in cell.loads if not self._is_apart(b[2])), [])
        return min(heads)[2] if heads else ""

    def most_cached(self) -> int:
        return max((e.cached for e in self._apart("both")), default=0)

    def has_groups(self) -> bool:
        if self.gone:
            return any(e.group for e in self.engines())
        return any(cell.group for cell in self.cells)

    def is_measured(self) -> bool:
        if self.gone:
            return all(e.prefill_tokens_per_s for e in self.engines())
        return all(cell.is_measured for cell in self.cells)

    def _has(self, engine: Engine) -> bool:
        return engine.name not in self.gone and self.group in (None, engine.group)

    def _apart(self, role: Role) -> list[Engine]:
        """Those that are not as the cells have them."""
        gone, roles = self.gone, ROLES if role == "both" else (role, "both")
        return [
            engine
            for engine in self.changed.values()
            if engine.role in roles
            and engine.name not in gone
            and (self.group is None or engine.group == self.group)
        ]

    def _is_apart(self, name: str) -> bool:
        return name in self.changed or name in self.gone

    def _cells(self, role: Role) -> tuple[Cell, ...]:
        if role == "both":
            return self.cells
        return tuple([cell for cell in self.cells if cell.role in (role, "both")])
