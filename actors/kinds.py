"""Which engines of a model can exchange KV with each other, and why others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Sized

from bus.compatibility import differences
from bus.fleet import Fleet
from bus.messages import Beat


class Kinds:
    """Of one model. Pure."""

    def __init__(self) -> None:
        self._of: dict[str, Beat] = {}
        """By engine: a beat that says of which kind it is."""
        self._sizes: dict[str, int] = {}
        """Engines, by kind."""

    def put(self, beat: Beat) -> None:
        self.drop(beat.engine)
        self._of[beat.engine] = beat
        self._sizes[beat.compatibility] = self._sizes.get(beat.compatibility, 0) + 1

    def drop(self, engine: str) -> None:
        if beat := self._of.pop(engine, None):
            self._sizes[beat.compatibility] -= 1
            if not self._sizes[beat.compatibility]:
                del self._sizes[beat.compatibility]

    def kin(self, fleet: Fleet, named: Iterable[str], prompt: Sized) -> Fleet:
        """Those engines of ``fleet`` that can exchange KV with each other: with the first of
        ``named`` that is there, or else with the one that would have ``prompt`` first."""
        if len(self._sizes) < 2 or not fleet.engines:
            return fleet
        there = {e.name: self._of[e.name].compatibility for e in fleet.engines}
        chosen = next((e for e in named if e in there), None) or fleet.best_prefix(prompt)
        return Fleet(tuple(e for e in fleet.engines if there[e.name] == there[chosen]))

    def strangers(self, beat: Beat) -> list[str]:
        """Why an engine cannot exchange KV with others, told of one of each kind."""
        one_of_each = {other.compatibility: other for other in self._of.values() if other.kv}
        one_of_each.pop(beat.compatibility, None)
        return [_unlike(beat, other) for other in one_of_each.values()] if beat.kv else []


def _unlike(one: Beat, other: Beat) -> str:
    assert one.kv
    assert other.kv
    why = "; ".join(differences(one.engine, one.kv, other.engine, other.kv))
    return f"{one.engine} and {other.engine} cannot exchange KV: {why}"
