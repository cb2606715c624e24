"""A router's points: what its statistics say, as instruments, and how long its requests took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from observability import instruments as of
from observability.metrics import Labels, Point

from .routing import RouterStatistics


def router_points(
    now: RouterStatistics,
    times: list[Point],
    rejected: Mapping[str, int],
    waits_s: Mapping[str, float],
    labels: Labels,
) -> list[Point]:
    """``rejected`` by reason: requests that were refused before they were flows. ``waits_s`` by
    model: how long a newcomer would wait."""
    waits = [Point(of.EXPECTED_WAIT, s, {"model": model}) for model, s in waits_s.items()]
    found = [*times, *waits, *_now(now), *_counts(now, rejected)]
    return [Point(p.instrument, p.value, {**labels, **p.labels}) for p in found]


def _now(router: RouterStatistics) -> Iterator[Point]:
    yield Point(of.FLOWS, router.flows)
    yield Point(of.ENGINES, router.engines)
    for model, count in router.waiting.items():
        yield Point(of.WAITING, count, {"model": model})


def _counts(router: RouterStatistics, rejected: Mapping[str, int]) -> Iterator[Point]:
    for outcome, count in router.outcomes.items():
        yield Point(of.ENDED, count, {"outcome": outcome})
    for reason, count in router.refusals.items():
        yield Point(of.REFUSALS, count, {"reason": reason, "by": "engine"})
    for reason, count in rejected.items():
        yield Point(of.REFUSALS, count, {"reason": reason, "by": "intake"})
    yield Point(of.LATE, router.late)
    for move in router.moves:
        labels = {
            "orchestration": move.orchestration,
            "before": move.before,
            "event": move.event,
            "after": move.after,
        }
        yield Point(of.TRANSITIONS, move.count, labels)
