"""Command to completion event through the real actors, against a raw nats-py round trip."""

from __future__ import annotations

import asyncio
import math
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from bus.server import EmbeddedServer

from .crew import Crew, Party
from .parties.fleet import ActorConfig, Settle
from .parties.hop_router import Hops, Times
from .parties.raw_requester import RequesterConfig, RoundTrips
from .parties.raw_responder import ResponderConfig
from .progress import rounds
from .report import AtMost, Figure, Result

SUBJECT: Final = "bench.raw.echo"
NUM_PROMPT: Final = 24
REQUEST_BYTES: Final = 201
"""What an order for a query of 24 tokens takes."""
REPLY_BYTES: Final = 115
"""What the report of its answer takes."""
IN_FLIGHT: Final = 64
TARGETS: Final = {"command_to_event_vs_raw": AtMost(1.6)}


class Plan(Struct, frozen=True):
    """Rounds of the ways after each other, so that all of them see the same neighbours."""

    num_rounds: int = 9
    num_hops: int = 600
    """One after the other, per round and way."""
    num_in_flight_hops: int = 2400
    """With 64 in flight, per round and way."""


class Ways(Struct, frozen=True):
    """The processes, ready to be asked."""

    engine: Party
    router: Party
    requester: Party

    async def raw(self, count: int, in_flight: int) -> Times:
        return await self.requester.ask(RoundTrips(count, in_flight), Times)

    async def hop(self, count: int, in_flight: int, traced: bool) -> Times:
        times = await self.router.ask(Hops(count, in_flight, NUM_PROMPT, traced), Times)
        await self.engine.ask(Settle(), msgspec.Raw)
        return times


class Round(Struct, frozen=True):
    raw: Times
    untraced: Times
    traced: Times
    raw_in_flight: Times
    untraced_in_flight: Times
    traced_in_flight: Times


def run() -> Result:
    return asyncio.run(measure(Plan()))


async def measure(plan: Plan) -> Result:
    """One result; it takes about a second and a half per round."""
    async with ways() as known:
        await round_of(known, plan)  # whoever comes first would pay for cold caches
        return summed_up([await round_of(known, plan) for _ in rounds(plan.num_rounds, "rounds")])


@asynccontextmanager
async def ways() -> AsyncIterator[Ways]:
    with tempfile.TemporaryDirectory(prefix="microserve-bench-") as folder:
        async with EmbeddedServer() as server, Crew() as crew:
            actor = ActorConfig(server.url, str(Path(folder) / "traces.db"))
            engine = await crew.start("hop_engine", actor)
            router = await crew.start("hop_router", actor)
            await crew.start("raw_responder", ResponderConfig(server.url, SUBJECT, REPLY_BYTES))
            raw = RequesterConfig(server.url, SUBJECT, REQUEST_BYTES)
            yield Ways(engine, router, await crew.start("raw_requester", raw))


async def round_of(ways: Ways, plan: Plan) -> Round:
    one, many = plan.num_hops, plan.num_in_flight_hops
    return Round(
        raw=await ways.raw(one, 1),
        untraced=await ways.hop(one, 1, traced=False),
        traced=await ways.hop(one, 1, traced=True),
        raw_in_flight=await ways.raw(many, IN_FLIGHT),
        untraced_in_flight=await ways.hop(many, IN_FLIGHT, traced=False),
        traced_in_flight=await ways.hop(many, IN_FLIGHT, traced=True),
    )


def summed_up(rounds: Sequence[Round]) -> Result:
    """Medians over the rounds; a ratio is taken within each round first."""

    def over(way: str, against: str) -> float:
        return statistics.median(
            _p50_us(getattr(r, way)) / _p50_us(getattr(r, against)) for r in rounds
        )

    figures: dict[str, Figure] = {}
    for way in ("raw", "untraced", "traced"):
        times: list[Times] = [getattr(r, way) for r in rounds]
        figures[f"{way}_p50_us"] = statistics.median(map(_p50_us, times))
        figures[f"{way}_p99_us"] = statistics.median(map(_p99_us, times))
    for way in ("raw", "untraced", "traced"):
        times = [getattr(r, f"{way}_in_flight") for r in rounds]
        rate = statistics.median(len(t.each_s) / t.all_s for t in times)
        figures[f"{way}_{IN_FLIGHT}_in_flight_per_s"] = rate
    ratios = {
        "command_to_event_vs_raw": over("traced", "raw"),
        "untraced_command_to_event_vs_raw": over("untraced", "raw"),
    }
    return Result("hop", ratios, figures, dict(TARGETS))


def _p50_us(times: Times) -> float:
    return statistics.median(times.each_s) * 1e6


def _p99_us(times: Times) -> float:
    ordered = sorted(times.each_s)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] * 1e6
