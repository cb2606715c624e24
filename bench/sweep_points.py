"""The runs of a sweep as points, figures and ratios."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf, nan

from msgspec import Struct

from .load import Seen
from .report import Figure
from .sweep import ADAPTIVE, BASELINE, SHIFT, STATIC, Run


class Point(Struct, frozen=True):
    """One strategy at one rate of one workload, the requests of all seeds together."""

    workload: str
    rate_per_s: float
    strategy: str
    num_requests: int
    num_failed: int
    ttft_mean_s: float
    ttft_p99_s: float
    tpot_mean_s: float
    tpot_p99_s: float
    jct_mean_s: float
    jct_p99_s: float
    """Of those that did not fail. Where some did, ratios take both for endless: whoever fails those
    that take longest is not quick."""

    def compared_s(self, jct_s: float) -> float:
        return inf if self.num_failed else jct_s


def points(runs: Iterable[Run]) -> list[Point]:
    """In the order in which they first come."""
    seen = defaultdict[tuple[str, float, str], list[Seen]](list)
    for run in runs:
        seen[run.cell.workload, run.cell.rate_per_s, run.cell.strategy] += run.seen
    return [_point(*which, requests) for which, requests in seen.items()]


def _point(workload: str, rate_per_s: float, strategy: str, seen: Sequence[Seen]) -> Point:
    good = [s for s in seen if not s.error]
    ttft, tpot, jct = ([getattr(s, f) for s in good] for f in ("ttft_s", "tpot_s", "jct_s"))
    return Point(
        workload,
        rate_per_s,
        strategy,
        len(seen),
        len(seen) - len(good),
        *(_mean(ttft), _p99(ttft)),
        *(_mean(tpot), _p99(tpot)),
        *(_mean(jct), _p99(jct)),
    )


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _p99(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))] if values else float("nan")


def ratios(found: Sequence[Point]) -> dict[str, float]:
    """The first: P99 of the time to the end, of the best other strategy at the point where it is
    best against data parallel. The second: mean time to the end of ``adaptive`` against the best
    static strategy, at the point where it is worst. The third: the same on the mix that shifts,
    over all rates together, against the one static strategy that is best there; not a number where
    that mix was not measured."""
    places = _places(found).values()
    shifting = [p for (workload, _), p in _places(found).items() if workload == SHIFT]
    totals = {s: sum(_mean_jct_s(p[s]) for p in shifting) for s in (*STATIC, ADAPTIVE)}
    best = min(totals[s] for s in STATIC)
    return {
        "best_p99_jct_vs_data_parallel": min(map(_p99_vs_baseline, places)),
        "adaptive_worst_vs_best_static": max(map(adaptive_vs_best_static, places)),
        "adaptive_on_shift_vs_best_static": totals[ADAPTIVE] / best if shifting else nan,
    }


def adaptive_vs_best_static(place: Mapping[str, Point]) -> float:
    """Of the mean time to the end."""
    return _mean_jct_s(place[ADAPTIVE]) / min(_mean_jct_s(place[s]) for s in STATIC)


def _mean_jct_s(point: Point) -> float:
    return point.compared_s(point.jct_mean_s)


def _p99_vs_baseline(place: Mapping[str, Point]) -> float:
    others = [p.compared_s(p.jct_p99_s) for p in place.values() if p.strategy != BASELINE]
    return min(others) / place[BASELINE].jct_p99_s


def _places(found: Iterable[Point]) -> dict[tuple[str, float], dict[str, Point]]:
    """Those where every strategy was measured."""
    places = defaultdict[tuple[str, float], dict[str, Point]](dict)
    for point in found:
        places[point.workload, point.rate_per_s][point.strategy] = point
    return {at: place for at, place in places.items() if {*STATIC, ADAPTIVE} <= {*place}}


def figures(found: Iterable[Point]) -> dict[str, Figure]:
    """One line a point: times in milliseconds, mean / P99."""
    told: dict[str, Figure] = {}
    for p in found:
        failed = f", {p.num_failed} of {p.num_requests} FAILED" if p.num_failed else ""
        told[f"{p.workload} {p.rate_per_s:g}/s {p.strategy}"] = (
            f"TTFT {_ms(p.ttft_mean_s, p.ttft_p99_s)}, TPOT {_ms(p.tpot_mean_s, p.tpot_p99_s)}, "
            f"JCT {_ms(p.jct_mean_s, p.jct_p99_s)}{failed}"
        )
    return told


def table(found: Sequence[Point]) -> str:
    """Markdown: the mean time to the end of ``adaptive`` against the best static strategy stands in
    its row; the ratios are below."""
    head = "| load | strategy | TTFT | TPOT | JCT | | failed |\n|---|---|---|---|---|---|---|\n"
    rows, places = list[str](), _places(found)
    for p in sorted(found, key=lambda p: (p.workload, p.rate_per_s)):
        place = places.get((p.workload, p.rate_per_s), {})
        ratio = f"{adaptive_vs_best_static(place):.2f}" if place and p.strategy == ADAPTIVE else ""
        rows.append(
            f"| {p.workload}, {p.rate_per_s:g}/s | {p.strategy} "
            f"| {_ms(p.ttft_mean_s, p.ttft_p99_s)} | {_ms(p.tpot_mean_s, p.tpot_p99_s)} "
            f"| {_ms(p.jct_mean_s, p.jct_p99_s)} | {ratio} "
            f"| {p.num_failed} of {p.num_requests} |\n"
        )
    told = [f"{name}: {ratio:.3f}\n" for name, ratio in ratios(found).items()] if places else []
    return "".join([head, *rows, "\n", *told])


def _ms(mean_s: float, p99_s: float) -> str:
    return f"{mean_s * 1e3:.1f} / {p99_s * 1e3:.1f}"
