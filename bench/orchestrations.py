"""Strategies under Poisson load: time to first token, per token, and to the end, at each rate.

Two real engines with one thread each, a prefiller and a decoder by role, over UCX, with a small
random Llama (`little_llama`). Every strategy gets the same requests at the same moments, on engines
that have none of them cached.

A run of everything takes long. ``python -m bench.orchestrations WORKLOAD FILE`` measures one
workload and appends what it found to a file, ``python -m bench.orchestrations FILE`` makes the
table and the plot of what such a file holds.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from actors.client import Client
from actors.settings import Settings, from_environment
from actors.supervisor import FleetOptions, local_fleet
from bus.nats import NatsBus

from .little_llama import write
from .load import Kind, Seen, Workload, plan, play
from .report import AtMost, Figure, Result

BASELINE: Final = "data_parallel"
STATIC: Final = (BASELINE, "disaggregated", "balanced")
ADAPTIVE: Final = "adaptive"
STRATEGIES: Final = (*STATIC, ADAPTIVE)
SHIFT: Final = "d"
WORKLOADS: Final = (
    Workload("a", "512 in, 32 out", (Kind(512, 32),), (6, 12, 16)),
    Workload("b", "64 in, 128 out", (Kind(64, 128),), (6, 12, 16)),
    Workload("c", "512 in, 448 of them shared, 32 out", (Kind(512, 32, 448),), (8, 16, 24)),
    Workload(SHIFT, "a, then b", (Kind(512, 32), Kind(64, 128)), (6, 12, 16)),
)
SECONDS: Final = 6.0
SEEDS: Final = (1, 2)
WARM_UP_S: Final = 3.0


class Point(Struct, frozen=True):
    """One strategy at one rate of one workload, over all seeds."""

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


class Sweep(Struct, frozen=True):
    workloads: tuple[Workload, ...] = WORKLOADS
    strategies: tuple[str, ...] = STRATEGIES
    seconds: float = SECONDS
    seeds: tuple[int, ...] = SEEDS
    warm_up_s: float = WARM_UP_S


def run(sweep: Sweep = Sweep()) -> Result:  # noqa: B008 - frozen
    return result(asyncio.run(measure(sweep)))


async def measure(sweep: Sweep) -> list[Point]:
    """All points of a sweep, on one fleet that is started for it."""
    with tempfile.TemporaryDirectory(prefix="microserve-bench-") as scratch:
        folder = Path(scratch)
        model = await asyncio.to_thread(write, folder / "little-llama")
        options = FleetOptions(
            (("p0", "prefill"), ("d0", "decode")),
            model=str(model),
            engine_arguments=("--kv-mib", "256"),
        )
        async with (
            local_fleet(_settings(folder), options) as fleet,
            NatsBus(fleet.url, name="bench") as bus,
            Client(bus) as client,
        ):
            return await _sweep(client, model.name, sweep)


def _settings(folder: Path) -> Settings:
    given = from_environment()
    return Settings(
        nats_url=None,
        namespace="ms",
        state_dir=folder / "state",
        cache_dir=folder / "cache",
        otlp_endpoint=None,
        otlp_protocol="http/protobuf",
        libucp=given.libucp,
        fleet_key=None,
        nats_server=given.nats_server,
    )


async def _sweep(client: Client, model: str, sweep: Sweep) -> list[Point]:
    salts, points = count(1), list[Point]()
    for strategy in sweep.strategies:  # engines measure themselves, and code is warm
        due = plan(sweep.workloads[0], 5.0, sweep.warm_up_s, seed=0)
        await play(client, model, strategy, due, next(salts))
    for workload in sweep.workloads:
        for rate_per_s in workload.rates_per_s:
            seen = defaultdict[str, list[Seen]](list)
            for seed in sweep.seeds:
                due = plan(workload, rate_per_s, sweep.seconds, seed)
                for strategy in sweep.strategies:
                    seen[strategy] += await play(client, model, strategy, due, next(salts))
            points += [_point(workload.name, rate_per_s, s, seen[s]) for s in sweep.strategies]
    return points


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


# --- what it says -------------------------------------------------------------------------------


def result(points: Sequence[Point]) -> Result:
    return Result(
        "orchestrations",
        ratios(points),
        figures(points),
        {
            "best_p99_jct_vs_data_parallel": AtMost(0.53),
            "adaptive_worst_vs_best_static": AtMost(1.05),
            "adaptive_on_shift_vs_best_static": AtMost(1.0),
        },
    )


def ratios(points: Sequence[Point]) -> dict[str, float]:
    """The first: P99 of the time to the end, of the best other strategy at the point where it is
    best against data parallel. The second: mean time to the end of ``adaptive`` against the best
    static strategy, at the point where it is worst. The third: the same on the mix that shifts,
    over all rates together, against the one static strategy that is best there."""
    places = _places(points)
    p99 = [
        min(p.jct_p99_s for p in place.values() if p.strategy != BASELINE)
        / place[BASELINE].jct_p99_s
        for place in places.values()
    ]
    means = [
        place[ADAPTIVE].jct_mean_s / min(place[s].jct_mean_s for s in STATIC if s in place)
        for place in places.values()
    ]
    shifting = [place for (workload, _), place in places.items() if workload == SHIFT] or list(
        places.values()
    )

    def total(strategy: str) -> float:
        return sum(place[strategy].jct_mean_s for place in shifting)

    best = min(total(s) for s in STATIC if s in shifting[0])
    return {
        "best_p99_jct_vs_data_parallel": min(p99),
        "adaptive_worst_vs_best_static": max(means),
        "adaptive_on_shift_vs_best_static": total(ADAPTIVE) / best,
    }


def figures(points: Iterable[Point]) -> dict[str, Figure]:
    """One line a point: times in milliseconds, mean / P99."""
    told: dict[str, Figure] = {}
    for p in points:
        failed = f", {p.num_failed} of {p.num_requests} FAILED" if p.num_failed else ""
        told[f"{p.workload} {p.rate_per_s:g}/s {p.strategy}"] = (
            f"TTFT {_ms(p.ttft_mean_s, p.ttft_p99_s)}, TPOT {_ms(p.tpot_mean_s, p.tpot_p99_s)}, "
            f"JCT {_ms(p.jct_mean_s, p.jct_p99_s)}{failed}"
        )
    return told


def _ms(mean_s: float, p99_s: float) -> str:
    return f"{mean_s * 1e3:.1f} / {p99_s * 1e3:.1f}"


def _places(points: Iterable[Point]) -> dict[tuple[str, float], dict[str, Point]]:
    places = defaultdict[tuple[str, float], dict[str, Point]](dict)
    for point in points:
        places[point.workload, point.rate_per_s][point.strategy] = point
    return places


# --- in pieces ----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> None:
    *names, file = arguments
    path = Path(file)
    if names:
        chosen = tuple(w for w in WORKLOADS if w.name in names)
        with path.open("ab") as found:
            for point in asyncio.run(measure(Sweep(chosen))):
                found.write(msgspec.json.encode(point) + b"\n")
        return
    points = [msgspec.json.decode(line, type=Point) for line in path.read_bytes().splitlines()]
    from .orchestrations_plot import plot

    sys.stdout.write(table(points))
    plot(points, path.with_suffix(".svg"))


def table(points: Sequence[Point]) -> str:
    """Markdown, and the ratios below it."""
    head = "| load | strategy | TTFT | TPOT | JCT | failed |\n|---|---|---|---|---|---|\n"
    rows = [
        f"| {p.workload}, {p.rate_per_s:g}/s | {p.strategy} | {_ms(p.ttft_mean_s, p.ttft_p99_s)} "
        f"| {_ms(p.tpot_mean_s, p.tpot_p99_s)} | {_ms(p.jct_mean_s, p.jct_p99_s)} "
        f"| {p.num_failed} of {p.num_requests} |\n"
        for p in points
    ]
    told = [f"{name}: {ratio:.3f}\n" for name, ratio in ratios(points).items()]
    return "".join([head, *rows, "\n", *told])


if __name__ == "__main__":
    main(sys.argv[1:])
