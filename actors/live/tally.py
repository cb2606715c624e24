"""How flows of each strategy go, counted from what a viewer is told: states, rates, times."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from bus.moves import Ending, Sighting

from .scene import Change, Scene, Whole

KEPT: Final = 2000
"""Endings of one strategy."""
RATE_S: Final = 5.0
SHARES: Final = (0.5, 0.9)


class Quantiles(Struct, frozen=True):
    """Seconds, at `SHARES`; None where nothing was measured."""

    p50: float | None
    p90: float | None


class StrategyLine(Struct, frozen=True):
    ref: str
    in_flight: int
    states: tuple[tuple[str, int], ...]
    """Flows in each, the fullest first."""
    ended_per_s: float
    failed: int
    """Of the endings that are kept: neither finished, kept nor cancelled."""
    ttft: Quantiles
    tpot: Quantiles
    jct: Quantiles


class Tally:
    """For one viewer. ``scene`` is read for what there is now."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._endings: dict[str, deque[tuple[float, Ending]]] = {}

    def heed(self, told: Whole | Change) -> None:
        for ending in told.ended if isinstance(told, Change) else ():
            kept = self._endings.setdefault(ending.strategy, deque(maxlen=KEPT))
            kept.append((told.now, ending))

    def lines(self, now: float) -> list[StrategyLine]:
        """Of every strategy that has flows or had some, by name."""
        flows = self._scene.flows.values()
        refs = {flow.strategy for flow in flows} | set(self._endings)
        return [self._line(ref, flows, now) for ref in sorted(refs)]

    def _line(self, ref: str, flows: Iterable[Sighting], now: float) -> StrategyLine:
        states = Counter(flow.state for flow in flows if flow.strategy == ref)
        kept = self._endings.get(ref, ())
        endings = [ending for _, ending in kept]
        return StrategyLine(
            ref,
            states.total(),
            tuple(states.most_common()),
            sum(at_s > now - RATE_S for at_s, _ in kept) / RATE_S,
            sum(e.outcome not in ("finished", "kept", "cancelled") for e in endings),
            quantiles([e.ttft_s for e in endings]),
            quantiles([e.tpot_s for e in endings]),
            quantiles([e.jct_s for e in endings]),
        )


def quantiles(values: Sequence[float | None]) -> Quantiles:
    known = sorted(value for value in values if value is not None)
    if not known:
        return Quantiles(None, None)
    return Quantiles(*(known[min(len(known) - 1, int(share * len(known)))] for share in SHARES))
