"""What tracing costs a router: CPU per flow with none, some and all flows sampled, against off.

Every short stretch of one way lies between two of ``off``, and is held against each of them: what
the machine does besides is the same for all three. Of many such ratios the median counts; against
the mean of the two it would come out too small, since what disturbs a stretch only makes it longer.
What the threads that export spend comes when it comes: it has clocks of its own, and is added up.

```
off | none | off | head_1_in_10 | off | tail | off | all | off | none | off ...
```
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import msgspec
from msgspec import Struct

from actors.client import Client
from bus.nats import NatsBus
from bus.public import Delta, Done, GenerateRequest
from bus.server import EmbeddedServer

from .crew import Crew, Party
from .parties.fleet import MODEL
from .parties.tracing_engine import TracingEngines
from .parties.tracing_router import TracingRouters
from .parties.tracing_ways import (
    OFF,
    TRACED,
    VOCAB_SIZE,
    WAYS,
    Account,
    Exported,
    Glance,
    Spent,
    Way,
)
from .progress import rounds_for
from .report import AtMost, Figure, Result

NUM_PROMPT: Final = 64
FAILS_ONE_IN: Final = 20
TARGETS: Final = {
    "none": AtMost(1.02),
    "head_1_in_10": AtMost(1.05),
    "tail": AtMost(1.05),
}


class Plan(Struct, frozen=True):
    seconds: float = 80.0
    """Of rounds; one that has begun is finished."""
    num_flows: int = 40
    """Of each stretch; one in twenty is refused by its engine, and so fails."""
    in_flight: int = 16
    num_tokens: int = 32
    """Of each answer."""
    export_every_s: float = 5.0
    """As OpenTelemetry has it."""


class Scene(Struct, frozen=True):
    router: Party
    clients: dict[str, Client]
    """By way."""


class Stretch(Struct, frozen=True):
    """Microseconds of CPU that a flow cost the router's event loop."""

    way: str
    loop_us: float
    off_us: tuple[float, float]
    """In the stretches before and after it."""

    @property
    def ratios(self) -> tuple[float, float]:
        before_us, after_us = self.off_us
        return self.loop_us / before_us, self.loop_us / after_us


class Found(Struct, frozen=True):
    stretches: list[Stretch]
    exported: dict[str, Exported]
    """In all of them together, by way."""
    num_flows: int
    """Of each way, in all of them together."""

    @property
    def off_us(self) -> float:
        return statistics.median(us for s in self.stretches for us in s.off_us)

    def export_us(self, way: str) -> float:
        """CPU of the thread that exports, per flow, sampled or not."""
        return self.exported[way].cpu_s / self.num_flows * 1e6

    def versus_off(self, way: str) -> float:
        loop = statistics.median(r for s in self.stretches if s.way == way for r in s.ratios)
        return loop + self.export_us(way) / self.off_us


def run() -> Result:
    return asyncio.run(measure(Plan()))


async def measure(plan: Plan) -> Result:
    async with scene(plan) as at:
        for way in WAYS:  # whoever comes first would pay for cold caches
            await flows(at, plan, way)
        before = await at.router.ask(Account(), Spent)
        stretches: list[Stretch] = []
        for number in rounds_for(plan.seconds):
            stretches += await one_round(at, plan, number)
        after = await at.router.ask(Account(), Spent)
    exported = {way.name: _between(before, after, way.name) for way in WAYS}
    return summed_up(Found(stretches, exported, len(stretches) // len(TRACED) * plan.num_flows))


@asynccontextmanager
async def scene(plan: Plan) -> AsyncIterator[Scene]:
    async with EmbeddedServer() as server, Crew() as crew, AsyncExitStack() as stack:
        collector = await crew.start("span_collector", {})
        endpoint = msgspec.json.decode(collector.greeting, type=str)
        await crew.start("tracing_engine", TracingEngines(server.url))
        config = TracingRouters(server.url, endpoint, plan.export_every_s)
        router = await crew.start("tracing_router", config)
        bus = await stack.enter_async_context(NatsBus(server.url))
        clients = {
            way.name: await stack.enter_async_context(Client(bus, way.subjects)) for way in WAYS
        }
        yield Scene(router, clients)


async def one_round(at: Scene, plan: Plan, number: int) -> list[Stretch]:
    """Every way once, between two of off. Each round begins with another one."""
    first = number % len(TRACED)
    found: list[Stretch] = []
    before_us = await flows(at, plan, OFF)
    for way in TRACED[first:] + TRACED[:first]:
        loop_us, after_us = await flows(at, plan, way), await flows(at, plan, OFF)
        found.append(Stretch(way.name, loop_us, (before_us, after_us)))
        before_us = after_us
    return found


async def flows(at: Scene, plan: Plan, way: Way) -> float:
    """Microseconds of CPU that a flow costs the router's event loop."""
    before = await at.router.ask(Glance(), Spent)
    queue, client = asyncio.Semaphore(plan.in_flight), at.clients[way.name]
    async with asyncio.TaskGroup() as tasks:
        for number in range(plan.num_flows):
            fails = number % FAILS_ONE_IN == FAILS_ONE_IN - 1
            tasks.create_task(_one_of(queue, _fail(client) if fails else _ask(client, plan)))
    after = await at.router.ask(Glance(), Spent)
    return (after.loop_s - before.loop_s) / plan.num_flows * 1e6


async def _one_of(queue: asyncio.Semaphore, work: Coroutine[None, None, None]) -> None:
    async with queue:
        await work


async def _ask(client: Client, plan: Plan) -> None:
    request = GenerateRequest(prompt=tuple(range(NUM_PROMPT)), max_tokens=plan.num_tokens)
    count = 0
    async for message in client.generate(MODEL, request):
        count += len(message.tokens) if isinstance(message, Delta) else 0
    assert count == plan.num_tokens


async def _fail(client: Client) -> None:
    """A token that the router knows and its engine does not."""
    request = GenerateRequest(prompt=(*range(NUM_PROMPT - 1), VOCAB_SIZE), max_tokens=1)
    last = [message async for message in client.generate(MODEL, request)][-1]
    assert isinstance(last, Done)
    assert last.reason == "error"


def _between(before: Spent, after: Spent, way: str) -> Exported:
    was, now = before.exported[way], after.exported[way]
    assert not now.num_dropped, "spans were lost: that is not the cost of sending them"
    return Exported(now.cpu_s - was.cpu_s, now.num_spans - was.num_spans)


def summed_up(found: Found) -> Result:
    for name in ("off", "none"):
        assert not found.exported[name].num_spans, "flows that are not traced made spans"
    ratios = {way.name: found.versus_off(way.name) for way in TRACED}
    everything, off_us = found.exported["all"], found.off_us
    figures: dict[str, Figure] = {
        "rounds": len(found.stretches) // len(TRACED),
        "off_cpu_per_flow_us": off_us,
        "sampled_flow_costs_more_us": (ratios["all"] - 1) * off_us,
        "export_per_span_us": everything.cpu_s / everything.num_spans * 1e6,
    }
    figures |= {
        f"{name}_spans_per_flow": found.exported[name].num_spans / found.num_flows
        for name in ("head_1_in_10", "tail", "all")
    }
    return Result("tracing", ratios, figures, dict(TARGETS))
