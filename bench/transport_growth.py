"""Transfers of 1 KiB to 1 GiB, 1 to 64 at once, to 1 to 16 peers; and whether memory grows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from msgspec import Struct

from bus.transfers import Delivered, PoolShape

from .kv_process import Engine, KvProcess, Usage
from .progress import each
from .report import AtMost, Figure, Result

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PAGE_BYTES: Final = 16 * KIB
PATIENCE_S: Final = 60.0


class Plan(Struct, frozen=True):
    sizes: tuple[int, ...] = (KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, 1024 * MIB)
    at_once: tuple[int, ...] = (1, 4, 16, 64)
    peers: tuple[int, ...] = (1, 4, 16)
    repeats: int = 200
    """Of each size; fewer of those that would move more than ``size_bytes`` together."""
    size_bytes: int = 8 * 1024 * MIB
    bursts: int = 10
    """Of each number at once and of peers."""
    num_small: int = 10_000

    def repeats_of(self, size: int) -> int:
        return max(min(self.repeats, self.size_bytes // size), 1)


def run() -> Result:
    return measure(Plan())


def measure(plan: Plan) -> Result:
    figures: dict[str, Figure] = {}
    for size in each(plan.sizes, "sizes"):
        _by_size(size, plan.repeats_of(size), figures)
    with ExitStack() as stack:
        here = Engine("here", POOL, 30.0, {})
        stack.callback(here.close)
        peers = [KvProcess(f"peer-{n}", POOL) for n in range(max(plan.peers))]
        for peer in peers:
            stack.callback(peer.leave)
        _by_concurrency(plan, here, peers, figures)
        growth = _growth(plan.num_small, here, peers[0], figures)
    return Result(
        "transport_growth",
        {"resident_growth": growth},
        figures,
        {"resident_growth": AtMost(0.02)},
    )


def _shape(num_bytes: int, page_bytes: int = PAGE_BYTES) -> PoolShape:
    return PoolShape(
        num_layers=1,
        num_pages=max(num_bytes // page_bytes, 1),
        page_size=16,
        page_bytes=min(page_bytes, num_bytes),
        fingerprint="growth",
    )


POOL: Final = _shape(64 * MIB)
EACH_PAGES: Final = MIB // PAGE_BYTES


def _by_size(size: int, repeats: int, figures: dict[str, Figure]) -> None:
    """One transfer after the other, from the first write to the acknowledgement."""
    shape = _shape(size)
    here, there = Engine("here", shape, 30.0, {}), KvProcess("there", shape)
    pages = list(range(shape.num_pages))
    try:
        before = here.usage(), there.usage()
        seconds = [_send(here, there, f"f{n}", pages).seconds for n in range(repeats + 1)][1:]
        spent = _spent(before, (here.usage(), there.usage()))
    finally:
        here.close()
        there.leave()
    name = f"{size // KIB}k" if size < MIB else f"{size // MIB}m"
    figures[f"transfer_{name}_p50_us"] = statistics.median(seconds) * 1e6
    figures[f"transfer_{name}_p99_us"] = _p99(seconds) * 1e6
    figures[f"transfer_{name}_gb_per_s"] = size / statistics.median(seconds) / 1e9
    figures[f"transfer_{name}_cpu_s_per_gib"] = spent / ((repeats + 1) * size / (1 << 30))


def _by_concurrency(plan: Plan, here: Engine, peers: list[Any], figures: dict[str, Figure]) -> None:
    """Transfers of 1 MiB, so many at once, dealt out to so many peers."""
    for count in each(plan.peers, "peers"):
        for at_once in plan.at_once:
            name, some = f"{count}_peers_{at_once}_at_once", peers[:count]
            before = _usages(here, some)
            bursts = [_burst(here, some, at_once) for _ in range(plan.bursts + 1)][1:]
            spent = _spent(before, _usages(here, some))
            seconds = statistics.median(burst_s for burst_s, _ in bursts)
            latencies = [end.seconds for _, ends in bursts for end in ends]
            figures[f"{name}_gb_per_s"] = at_once * MIB / seconds / 1e9
            figures[f"{name}_p50_us"] = statistics.median(latencies) * 1e6
            figures[f"{name}_p99_us"] = _p99(latencies) * 1e6
            num_bytes = (plan.bursts + 1) * at_once * MIB
            figures[f"{name}_cpu_s_per_gib"] = spent / (num_bytes / (1 << 30))


def _burst(here: Engine, peers: list[Any], at_once: int) -> tuple[float, list[Delivered]]:
    grants = []
    for n in range(at_once):
        pages = list(range(n * EACH_PAGES, (n + 1) * EACH_PAGES))
        grants.append((f"b{n}", peers[n % len(peers)].grant(f"b{n}", pages), pages))
    begun = time.monotonic()
    for flow, grant, pages in grants:
        here.send(flow, grant, pages)
    ends = [_delivered(here) for _ in grants]
    seconds = time.monotonic() - begun
    for n in range(at_once):
        assert peers[n % len(peers)].event(PATIENCE_S)
    return seconds, ends


def _growth(count: int, here: Engine, there: Any, figures: dict[str, Figure]) -> float:
    """Resident memory after ``count`` transfers against that after the first tenth of them."""
    early, late = (
        _after(range(begin, end), here, there)
        for begin, end in ((0, count // 10), (count // 10, count))
    )
    figures["resident_sender_mib"] = late[0].resident_bytes / MIB
    figures["resident_receiver_mib"] = late[1].resident_bytes / MIB
    growth: float = max(
        b.resident_bytes / a.resident_bytes for a, b in zip(early, late, strict=True)
    )
    return growth - 1


def _after(numbers: range, here: Engine, there: Any) -> tuple[Usage, Usage]:
    for n in each(numbers, "small transfers"):
        _send(here, there, f"f{n}", [n % EACH_PAGES])
    return here.usage(), there.usage()


def _usages(here: Engine, there: Sequence[Any]) -> tuple[Usage, ...]:
    return here.usage(), *(peer.usage() for peer in there)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def _send(here: Engine, there: Any, flow: str, pages: list[int]) -> Delivered:
    here.send(flow, there.grant(flow, pages), pages)
    end = _delivered(here)
    assert there.event(PATIENCE_S)
    return end


def _delivered(here: Engine) -> Delivered:
    told = here.event(PATIENCE_S)
    assert told is not None
    assert isinstance(told[1], Delivered), told[1]
    return told[1]


def _spent(before: tuple[Usage, ...], after: tuple[Usage, ...]) -> float:
    return sum(b.cpu_s - a.cpu_s for a, b in zip(before, after, strict=True))
