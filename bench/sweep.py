"""What strategies are measured on: workloads, rates, seeds, and one real fleet of two engines.

A sweep is made of cells, one strategy at one rate with one seed each. What each request of a cell
saw is kept, so that cells measured at different times can be put together.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

from msgspec import Struct

from actors.client import Client
from actors.settings import Settings, from_environment
from actors.supervisor import FleetOptions, local_fleet
from bus.nats import NatsBus
from engine.model_files import open_model

from .little_llama import write
from .load import Kind, Seen, Workload, plan, play
from .machine import Watch

BASELINE: Final = "data_parallel"
STATIC: Final = (BASELINE, "disaggregated", "balanced")
ADAPTIVE: Final = "adaptive"
STRATEGIES: Final = (*STATIC, ADAPTIVE)
SHIFT: Final = "d"
LITTLE: Final = "little llama"
DEFAULT: Final = "default"
"""SmolLM2-135M, as `microserve up` serves it."""

WORKLOADS: Final = (
    Workload("a", "512 in, 64 out", (Kind(512, 64),), (4, 8, 12, 16, 18)),
    Workload("b", "64 in, 128 out", (Kind(64, 128),), (8, 16)),
    Workload("c", "512 in, 448 of them shared, 64 out", (Kind(512, 64, 448),), (8, 16)),
    Workload(SHIFT, "a, then b", (Kind(512, 64), Kind(64, 128)), (8, 12, 16)),
)
CROSS_CHECK: Final = (Workload("s", "128 in, 32 out", (Kind(128, 32),), (1.0, 2.0)),)
"""For the default model, which is twenty times as slow, and saturates at 2.9 requests/s here."""


TRIES: Final = 3
LOOKS, LOOK_S = 20, 0.4


class Sweep(Struct, frozen=True):
    workloads: tuple[Workload, ...] = WORKLOADS
    strategies: tuple[str, ...] = STRATEGIES
    seconds: float = 8.0
    seeds: tuple[int, ...] = (1, 2)
    warm_up_s: float = 10.0
    """With each strategy, at a middling rate of the first workload. The little Llama's engines have
    written most pages of their pools once by then: the first touch of a page takes time, too."""
    tolerated: float = 0.08
    """Of the machine, what others may use during a run."""
    model: str = LITTLE

    def is_sound(self, run: Run) -> bool:
        return run.load_by_others <= self.tolerated


class Cell(Struct, frozen=True):
    model: str
    workload: str
    rate_per_s: float
    seed: int
    strategy: str


class Run(Struct, frozen=True):
    """What the requests of one cell saw."""

    cell: Cell
    seen: tuple[Seen, ...]
    load_by_others: float = 0.0
    """Share of all cores that was used meanwhile, and not by us."""


def cells(sweep: Sweep) -> Iterator[Cell]:
    """Every point with the first seed, then with the next; strategies side by side."""
    for seed in sweep.seeds:
        for workload in sweep.workloads:
            for rate_per_s in workload.rates_per_s:
                for strategy in sweep.strategies:
                    yield Cell(sweep.model, workload.name, rate_per_s, seed, strategy)


async def measure(
    sweep: Sweep, done: Collection[Cell] = (), until_s: float = float("inf")
) -> AsyncGenerator[Run, None]:
    """The cells that are not ``done``, in order, on one fleet that is started for them. None is
    begun after ``until_s`` of the monotonic clock. A run that others have disturbed is thrown away
    and made again, a few times at most: what comes may still be one (`Sweep.is_sound`)."""
    missing = [cell for cell in cells(sweep) if cell not in done]
    if not missing:
        return
    workloads, salts = {w.name: w for w in sweep.workloads}, count(time.time_ns() // 10**9 % 4096)
    async with (
        two_engines(sweep.model) as (url, model),
        NatsBus(url, name="bench") as bus,
        Client(bus) as client,
    ):
        for strategy in sweep.strategies:  # engines measure themselves; code and memory are warm
            workload = sweep.workloads[0]
            middling = workload.rates_per_s[len(workload.rates_per_s) // 2]
            due = plan(workload, middling, sweep.warm_up_s, seed=0)
            await play(client, model, strategy, due, next(salts))
        for cell in missing:
            due = plan(workloads[cell.workload], cell.rate_per_s, sweep.seconds, cell.seed)
            for attempt in range(TRIES):
                if time.monotonic() > until_s:
                    return
                await _calm(sweep.tolerated)
                watch = Watch.begin()
                seen = await play(client, model, cell.strategy, due, next(salts))
                made = Run(cell, tuple(seen), watch.load_by_others())
                if sweep.is_sound(made) or attempt + 1 == TRIES:
                    yield made
                    break


async def _calm(tolerated: float) -> None:
    """Returns when others leave us the machine, or have not for a while."""
    for _ in range(LOOKS):
        watch = Watch.begin()
        await asyncio.sleep(LOOK_S)
        if watch.load_by_others() <= tolerated:
            return


@asynccontextmanager
async def two_engines(model: str = LITTLE) -> AsyncIterator[tuple[str, str]]:
    """A prefiller and a decoder by role, with one thread each on two cores: the broker's URL and
    the model's name."""
    with tempfile.TemporaryDirectory(prefix="microserve-bench-") as scratch:
        folder = Path(scratch)
        path = await asyncio.to_thread(write, folder / "little-llama") if model == LITTLE else None
        options = FleetOptions(
            (("p0", "prefill"), ("d0", "decode")),
            model=str(path) if path else None,
            engine_arguments=("--kv-mib", "256" if model == LITTLE else "2048"),
        )
        async with local_fleet(_settings(folder), options) as fleet:
            yield fleet.url, open_model(options.model, cache_dir=folder / "cache").name


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
