"""What tracing costs a router: CPU per flow with all, a tenth and none of the flows sampled."""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from actors.client import Client
from bus.nats import NatsBus
from bus.public import Delta, GenerateRequest
from bus.server import EmbeddedServer
from observability.sink import SinkStatistics
from observability.spans import SpanContext, traceparent

from .crew import Crew, Party, cpu_s
from .parties.fleet import MODEL, ActorConfig, Settle
from .parties.tracing_router import TracingActor
from .progress import rounds
from .report import AtMost, Figure, Result

SAMPLED: Final = 0.1
NUM_PROMPT: Final = 64
TARGETS: Final = {"cpu_sampled_vs_off": AtMost(1.05)}


class Plan(Struct, frozen=True):
    """Rounds of the three ways after each other, so that all of them see the same neighbours."""

    num_rounds: int = 9
    num_flows: int = 400
    """Per round and way, 16 at once."""
    in_flight: int = 16
    num_tokens: int = 64
    """Of each answer."""


class Scene(Struct, frozen=True):
    router: Party
    client: Client


class Measured(Struct, frozen=True):
    cpu_us: float
    """Of the router, per flow, its exporting thread included."""
    num_spans: int


def run() -> Result:
    return asyncio.run(measure(Plan()))


async def measure(plan: Plan) -> Result:
    async with scene() as at:
        await flows(at, plan, 1.0)  # whoever comes first would pay for cold caches
        found = [
            {ratio: await flows(at, plan, ratio) for ratio in (0.0, SAMPLED, 1.0)}
            for _ in rounds(plan.num_rounds, "rounds")
        ]
    return summed_up(found, plan)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="microserve-bench-") as folder:
        async with EmbeddedServer() as server, Crew() as crew:
            collector = await crew.start("span_collector", {})
            endpoint = collector.greeting
            await crew.start("hop_engine", ActorConfig(server.url, str(Path(folder) / "t.db")))
            actor = TracingActor(server.url, bytes(endpoint).decode().strip('"'))
            router = await crew.start("tracing_router", actor)
            async with NatsBus(server.url) as bus, Client(bus) as client:
                yield Scene(router, client)


async def flows(at: Scene, plan: Plan, ratio: float) -> Measured:
    """The CPU that so many flows cost the router, all of their spans exported."""
    before = await at.router.ask(Settle(), SinkStatistics)
    begin_s = cpu_s(at.router.pid)
    queue = asyncio.Semaphore(plan.in_flight)
    async with asyncio.TaskGroup() as tasks:
        for number in range(plan.num_flows):
            is_sampled = number % round(1 / ratio) == 0 if ratio else False
            tasks.create_task(_ask(at.client, queue, plan.num_tokens, is_sampled))
    after = await at.router.ask(Settle(), SinkStatistics)
    used_s = cpu_s(at.router.pid) - begin_s
    assert not after.dropped, "spans were lost: what was measured is not the cost of sending them"
    return Measured(used_s / plan.num_flows * 1e6, after.written - before.written)


async def _ask(client: Client, queue: asyncio.Semaphore, num_tokens: int, is_sampled: bool) -> None:
    request = GenerateRequest(prompt=tuple(range(NUM_PROMPT)), max_tokens=num_tokens)
    context = SpanContext(secrets.token_hex(16), secrets.token_hex(8), is_sampled)
    async with queue:
        count = 0
        async for message in client.generate(MODEL, request, traceparent(context)):
            count += len(message.tokens) if isinstance(message, Delta) else 0
        assert count == num_tokens


def summed_up(found: list[dict[float, Measured]], plan: Plan) -> Result:
    """Medians over the rounds; a ratio is taken within each round first."""

    def versus_off(ratio: float) -> float:
        return statistics.median(r[ratio].cpu_us / r[0.0].cpu_us for r in found)

    def cpu_us(ratio: float) -> float:
        return statistics.median(r[ratio].cpu_us for r in found)

    assert not any(r[0.0].num_spans for r in found), "flows that are not traced made spans"
    spans = sum(r[1.0].num_spans for r in found) / (len(found) * plan.num_flows)
    figures: dict[str, Figure] = {
        "off_cpu_per_flow_us": cpu_us(0.0),
        "sampled_cpu_per_flow_us": cpu_us(SAMPLED),
        "all_cpu_per_flow_us": cpu_us(1.0),
        "spans_per_flow": spans,
    }
    ratios = {"cpu_sampled_vs_off": versus_off(SAMPLED), "cpu_all_vs_off": versus_off(1.0)}
    return Result("tracing", ratios, figures, dict(TARGETS))
