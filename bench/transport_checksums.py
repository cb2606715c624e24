"""What checksums cost: the same transfers between two processes, without and with them."""

from __future__ import annotations

import random
import statistics
import time
from typing import Final

import numpy as np
from msgspec import Struct
from xxhash import xxh3_64_intdigest

from bus.transfers import Arrived, Delivered, PoolShape

from .kv_process import KvProcess
from .progress import rounds
from .report import AtMost, Figure, Result

MIB: Final = 1 << 20
PAGE_BYTES: Final = 64 << 10
PATIENCE_S: Final = 20.0


class Plan(Struct, frozen=True):
    mib: int = 256
    rounds: int = 12


def run() -> Result:
    return measure(Plan())


def measure(plan: Plan) -> Result:
    num_pages = plan.mib * MIB // PAGE_BYTES
    shape = PoolShape(1, num_pages, 16, PAGE_BYTES, "checksums")
    figures: dict[str, Figure] = {"mib": plan.mib, "xxh3_gb_per_s": _hash_speed(plan.mib * MIB)}
    ratios: dict[str, float] = {}
    pairs = [_Pair(shape, checksums) for checksums in (False, True)]
    try:
        for verb in ("send", "lend"):
            plain, checked = _alternate(pairs, verb, plan.rounds)
            figures[f"{verb}_plain_ms"], figures[f"{verb}_checked_ms"] = plain * 1e3, checked * 1e3
            ratios[f"{verb}_checked_vs_plain"] = checked / plain
    finally:
        for pair in pairs:
            pair.close()
    return Result("transport_checksums", ratios, figures, dict.fromkeys(ratios, AtMost(3.0)))


class _Pair:
    def __init__(self, shape: PoolShape, checksums: bool) -> None:
        self._ends = [
            KvProcess(name, shape, checksums=checksums) for name in ("sender", "receiver")
        ]
        self._ends[0].fill(7)
        pages = list(range(shape.num_pages))
        self._pages = [random.Random(n).sample(pages, len(pages)) for n in (1, 2)]
        self._flows = 0

    def transfer(self, verb: str) -> float:
        """Seconds from the first write to the acknowledgement."""
        sender, receiver = self._ends
        self._flows += 1
        flow = f"f{self._flows}"
        grant = receiver.grant(flow, self._pages[1])
        getattr(sender, verb)(flow, grant, self._pages[0])
        arrived, delivered = receiver.event(PATIENCE_S), sender.event(PATIENCE_S)
        assert arrived is not None
        assert isinstance(arrived[1], Arrived)
        assert delivered is not None
        assert isinstance(delivered[1], Delivered)
        return delivered[1].seconds

    def close(self) -> None:
        for end in self._ends:
            end.leave()


def _alternate(pairs: list[_Pair], verb: str, count: int) -> tuple[float, float]:
    """Medians of both, measured in turn; the first round warms up."""
    seconds: list[list[float]] = [[p.transfer(verb) for p in pairs] for _ in rounds(count, verb)]
    plain, checked = (statistics.median(column) for column in zip(*seconds[1:], strict=True))
    return plain, checked


def _hash_speed(num_bytes: int) -> float:
    memory = np.random.default_rng(1).integers(0, 256, num_bytes, np.uint8).data
    began = time.perf_counter()
    for begin in range(0, num_bytes, PAGE_BYTES):
        xxh3_64_intdigest(memory[begin : begin + PAGE_BYTES])
    return num_bytes / (time.perf_counter() - began) / 1e9
