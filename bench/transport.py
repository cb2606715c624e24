"""KV writes from process to process, against a plain copy of the same runs and against NIXL."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from msgspec import Struct

from .bare_wake import bare_wake_s
from .loop_delay import loop_delay
from .nixl import HOW_TO_GET, Nixl, python_of_nixl
from .progress import each
from .putting import (
    CASES,
    MIB,
    POOL_BYTES,
    Case,
    Ends,
    Receiver,
    Sender,
    copier,
    private_memory,
    scattered,
    shared_memory,
    timed,
)
from .report import AtLeast, AtMost, Figure, Result, Target

TCP: Final = {"TLS": "tcp", "RNDV_THRESH": "inf"}
"""For both sides of the comparison: NIXL is faster so than with UCX's defaults."""
TCP_CASES: Final = ("16m_64k", "256m")
TARGETS: Final[dict[str, Target]] = {
    "put_256m_64k_vs_copy": AtLeast(0.85),
    "put_16m_vs_copy": AtLeast(0.9),
    "put_256m_64k_vs_nixl": AtLeast(1.0),
    "put_16m_16k_vs_nixl": AtLeast(1.0),
    "put_tcp_vs_nixl": AtLeast(1.0),
    "idle_cpu_cores": AtMost(0.01),
}


class Plan(Struct, frozen=True):
    repeats: int = 9
    idle_s: float = 2.0
    loop_s: float = 1.5
    series: int = 5
    """Of notices."""
    cases: tuple[str, ...] = tuple(case.name for case in CASES)
    tcp_cases: tuple[str, ...] = TCP_CASES


def run() -> Result:
    return measure(Plan(), python_of_nixl())


def measure(plan: Plan, nixl_python: str | None) -> Result:
    """Ratios above 1 say that we are faster."""
    ratios: dict[str, float] = {}
    figures: dict[str, Figure] = {"nixl": HOW_TO_GET}
    with ExitStack() as stack:
        sides = _Sides(stack, nixl_python, {})
        for case in each([c for c in CASES if c.name in plan.cases], "cases"):
            _compare(sides, case, plan.repeats, ratios, figures)
        _look_around(sides, plan, ratios, figures)
    with ExitStack() as stack:
        sides = _Sides(stack, nixl_python, TCP)
        for case in each([c for c in CASES if c.name in plan.tcp_cases], "cases over TCP"):
            _compare_tcp(sides, case, plan.repeats, ratios, figures)
    targets = {name: target for name, target in TARGETS.items() if name in ratios}
    chosen = {name: ratios.pop(name) for name in targets}
    return Result("transport", chosen, {**figures, **ratios}, targets)


class _Sides:
    """Our two processes, and NIXL's two where there is NIXL."""

    def __init__(self, stack: ExitStack, nixl_python: str | None, settings: dict[str, str]) -> None:
        ends = Ends(settings)
        self.receiver = Receiver(ends)
        stack.callback(self.receiver.close)
        self.sender = Sender(self.receiver, ends)
        stack.callback(self.sender.close)
        self.nixl: Nixl | None = None
        if nixl_python:
            self.nixl = stack.enter_context(Nixl(nixl_python, POOL_BYTES, settings))


def _compare(
    sides: _Sides, case: Case, repeats: int, ratios: dict[str, float], figures: dict[str, Figure]
) -> None:
    """All take turns, so that neighbours disturb them alike; the first round is for warming up."""
    runs = scattered(case)
    copy, shared_copy = copier(runs, private_memory), copier(runs, shared_memory)
    seconds: dict[str, list[float]] = {
        who: [] for who in ("put", "caller", "copy", "shared_copy", "nixl")
    }
    for _ in range(repeats + 1):
        put = sides.sender.put(runs)
        seconds["put"].append(put.seconds)
        seconds["caller"].append(put.caller_s)
        seconds["copy"].append(timed(copy))
        seconds["shared_copy"].append(timed(shared_copy))
        if sides.nixl:
            seconds["nixl"].append(sides.nixl.write_s(case.num_bytes, case.run_bytes))
    median = {who: statistics.median(times[1:]) for who, times in seconds.items() if times}
    for who, taken in median.items():
        figures[f"{who}_{case.name}_gb_per_s"] = case.num_bytes / taken / 1e9
    for other in median.keys() & {"copy", "shared_copy", "nixl"}:
        ratios[f"put_{case.name}_vs_{other}"] = median[other] / median["put"]


def _compare_tcp(
    sides: _Sides, case: Case, repeats: int, ratios: dict[str, float], figures: dict[str, Figure]
) -> None:
    """The worst of the cases is `put_tcp_vs_nixl`."""
    ours, theirs = [], []
    runs = scattered(case)
    for _ in range(repeats + 1):
        ours.append(sides.sender.put(runs).seconds)
        if sides.nixl:
            theirs.append(sides.nixl.write_s(case.num_bytes, case.run_bytes))
    put_s = statistics.median(ours[1:])
    figures[f"put_tcp_{case.name}_gb_per_s"] = case.num_bytes / put_s / 1e9
    if theirs:
        nixl_s = statistics.median(theirs[1:])
        figures[f"nixl_tcp_{case.name}_gb_per_s"] = case.num_bytes / nixl_s / 1e9
        ratio: float = nixl_s / put_s
        ratios["put_tcp_vs_nixl"] = min(ratio, ratios.get("put_tcp_vs_nixl", ratio))


def _look_around(
    sides: _Sides, plan: Plan, ratios: dict[str, float], figures: dict[str, Figure]
) -> None:
    """What else a transfer costs: others' time, the peer's wake-up, waiting."""
    if sides.nixl:
        figures["nixl"] = sides.nixl.version
    figures["lane"] = sides.sender.lane()
    _notices(sides, plan.series, figures)
    ratios["idle_cpu_cores"] = max(_idle_cores(sides.receiver, plan.idle_s))
    before = loop_delay(plan.loop_s)
    figures["loop_late_idle_p99_ms"] = before.p99_ms
    for name in ("256m", "256m_64k", "256m_16k"):
        runs = next(scattered(case) for case in CASES if case.name == name)
        with sides.sender.putting(runs):
            during = loop_delay(plan.loop_s)
        figures[f"loop_late_{name}_p50_ms"] = during.p50_ms
        figures[f"loop_late_{name}_p99_ms"] = during.p99_ms


def _notices(sides: _Sides, series: int, figures: dict[str, Figure]) -> None:
    """Medians of a few series in turns: a notice to a thread that sleeps, by event descriptor; to
    one that looks out for it; and what waking takes at the least."""
    seconds: dict[str, list[float]] = {"notice": [], "expected_notice": [], "bare_wake": []}
    with sleepy() as sleeping:
        for _ in range(series):
            seconds["notice"].append(sleeping.notice_s())
            seconds["expected_notice"].append(sides.sender.notice_s())
            seconds["bare_wake"].append(bare_wake_s())
    for who, found in seconds.items():
        figures[f"{who}_us"] = statistics.median(found) * 1e6


@contextmanager
def sleepy() -> Iterator[Sender]:
    """A pair that sleeps whenever nothing is to be done."""
    ends = Ends(linger_s=0.0, pool_bytes=MIB)
    receiver = Receiver(ends)
    try:
        sender = Sender(receiver, ends)
        try:
            yield sender
        finally:
            sender.close()
    finally:
        receiver.close()


def _idle_cores(receiver: Receiver, seconds: float) -> tuple[float, float]:
    """Cores that each process uses while it is connected and nothing happens."""
    theirs, ours = receiver.cpu_s(), time.process_time()
    time.sleep(seconds)
    ours_s, theirs_s = time.process_time() - ours, receiver.cpu_s() - theirs
    return ours_s / seconds, theirs_s / seconds
