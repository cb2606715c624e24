"""The fleet and its flows as a picture that is kept up to date: beats and moves in, changes out.

Pure: no clock, no bus. The live page and `microserve top` show what is here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from bus.messages import Beat
from bus.moves import Ending, Moves, Passage, Sighting

from ..roster import LOST_AFTER_S
from .rows import EngineRow, EngineSeen

REMEMBERED_S: Final = 30.0
"""For so long an engine is shown that is gone."""
ROUTER_SILENT_S: Final = 3.0
"""A watched router tells something four times a second."""


class Whole(Struct, frozen=True, tag_field="type", tag="whole"):
    """All there is, for somebody who begins to look."""

    now: float
    columns: tuple[str, ...]
    """Of an engine's row."""
    engines: tuple[EngineRow, ...]
    flows: tuple[Sighting, ...]


class Change(Struct, frozen=True, tag_field="type", tag="change"):
    """What is different since the last one."""

    now: float
    engines: tuple[EngineRow, ...] = ()
    """New, or with a new beat, or lost."""
    gone: tuple[str, ...] = ()
    """Engines that are not shown any more."""
    flows: tuple[Sighting, ...] = ()
    ended: tuple[Ending, ...] = ()
    forgotten: tuple[str, ...] = ()
    """Flows that nobody knows how they ended: their router is silent, or they were missed."""
    passed: tuple[Passage, ...] = ()


class Scene:
    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is known any more."""
        self.flows: dict[str, Sighting] = {}
        self._router_of: dict[str, str] = {}
        self._engines: dict[str, EngineSeen] = {}
        self._heard: dict[str, tuple[int, float]] = {}
        """By router: the number of its last message, and when it came."""
        self._fresh_engines: dict[str, None] = {}
        self._fresh_flows: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._gone: list[str] = []
        self._ended: list[Ending] = []
        self._passed: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)

    @property
    def engines(self) -> tuple[EngineRow, ...]:
        """By name, those that are gone for a moment included."""
        return tuple(seen.row() for _, seen in sorted(self._engines.items()))

    def router_of(self, flow: str) -> str | None:
        return self._router_of.get(flow)

    @property
    def routers(self) -> tuple[str, ...]:
        return tuple(sorted(self._heard))

    # --- what is heard --------------------------------------------------------------------------

    def heard(self, beat: Beat, now: float) -> None:
        """A beat of an engine."""
        seen = self._engines.setdefault(beat.engine, EngineSeen())
        if seen.heard(beat, now):
            self._fresh_engines[beat.engine] = None

    def moved(self, moves: Moves, now: float) -> bool:
        """A router's message; False where one was missed, so that everything has to be told."""
        expected = self._heard.get(moves.router, (0, 0.0))[0] + 1
        self._heard[moves.router] = (moves.sequence, now)
        if moves.whole:
            self._only(moves.router, {s.flow for s in moves.seen})
        for sighting in moves.seen:
            self._see(moves.router, sighting)
        for ending in moves.ended:
            self._forget(ending.flow)
        self._ended += moves.ended
        for p in moves.passed:
            self._passed[p.strategy, p.before, p.event, p.after] += p.count
        return moves.whole or moves.sequence == expected

    # --- what is shown --------------------------------------------------------------------------

    def whole(self, now: float) -> Whole:
        return Whole(now, EngineRow.__struct_fields__, self.engines, tuple(self.flows.values()))

    def change(self, now: float) -> Change:
        """What happened since this was asked last."""
        self._notice_silence(now)
        change = Change(
            now,
            tuple(self._engines[e].row() for e in self._fresh_engines if e in self._engines),
            tuple(self._gone),
            tuple(self.flows[f] for f in self._fresh_flows),
            tuple(self._ended),
            tuple(self._forgotten),
            tuple(Passage(*edge, count) for edge, count in self._passed.items()),
        )
        for told in (self._fresh_engines, self._fresh_flows, self._forgotten, self._passed):
            told.clear()
        self._gone.clear()
        self._ended.clear()
        return change

    # --- inside ---------------------------------------------------------------------------------

    def _see(self, router: str, sighting: Sighting) -> None:
        self.flows[sighting.flow] = sighting
        self._router_of[sighting.flow] = router
        self._fresh_flows[sighting.flow] = None
        self._forgotten.pop(sighting.flow, None)

    def _forget(self, flow: str) -> None:
        self.flows.pop(flow, None)
        self._router_of.pop(flow, None)
        self._fresh_flows.pop(flow, None)

    def _only(self, router: str, flows: Iterable[str]) -> None:
        """The router has these and no others."""
        for flow in [f for f, r in self._router_of.items() if r == router and f not in flows]:
            self._forget(flow)
            self._forgotten[flow] = None

    def _notice_silence(self, now: float) -> None:
        for name, seen in list(self._engines.items()):
            if seen.status == "alive" and now - seen.changed_s > LOST_AFTER_S:
                seen.lose(now)
                self._fresh_engines[name] = None
            elif seen.status != "alive" and now - seen.changed_s > REMEMBERED_S:
                del self._engines[name]
                self._gone.append(name)
        for router, (_, at_s) in list(self._heard.items()):
            if now - at_s > ROUTER_SILENT_S:
                del self._heard[router]
                self._only(router, ())
