"""CPU per token of 64 streams through engine host, broker, router and client, against SSE."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from bus.server import EmbeddedServer

from .crew import Crew, Party, cpu_s
from .parties.conversation import Ready
from .parties.fleet import ActorConfig
from .parties.streams import Address, Collect, Collected, Emit, Encoding, Open
from .progress import rounds
from .report import AtMost, Figure, Result

TARGETS: Final = {
    "cpu_per_token_vs_sse": AtMost(0.2),
    "cpu_per_token_inboxes_vs_sse": AtMost(0.4),
}


class Plan(Struct, frozen=True):
    """Rounds of the ways after each other, so that all of them see the same neighbours."""

    num_streams: int = 64
    num_rounds: int = 7
    num_steps: int = 400
    """Per round and way at full speed: a step begins when the messages of the one before were
    handed over (server-sent events: when every response has taken its token)."""
    num_paced_steps: int = 50
    paced_interval_s: float = 0.02
    """As long as a step of a model on a good device takes, the same for all ways."""


class Way(Struct, frozen=True):
    """One way of the tokens: who makes them, who has to have them, and all who work for it."""

    source: Party
    readers: tuple[Party, ...]
    pids: Mapping[str, int]
    encoding: Encoding = "json"


class Cost(Struct, frozen=True):
    """What one measurement of one way came to."""

    cpu_us: dict[str, float]
    """Microseconds per token, by process."""
    tokens_per_s: float

    @property
    def all_us(self) -> float:
        return sum(self.cpu_us.values())


Round: TypeAlias = dict[str, Cost]
"""By way."""


def run() -> Result:
    return asyncio.run(measure(Plan()))


async def measure(plan: Plan) -> Result:
    """One result. Every token of every stream is checked by its reader: once, in order, its own.

    Raises:
        PartyFailed: a reader got a wrong token and ended, among other reasons.
    """
    async with ways(plan.num_streams) as known:
        full = Emit(plan.num_steps, plan.num_streams)
        paced = Emit(plan.num_paced_steps, plan.num_streams, interval_s=plan.paced_interval_s)
        await round_of(known, full)  # whoever comes first would pay for cold caches
        fast = [await round_of(known, full) for _ in rounds(plan.num_rounds, "fast")]
        slow = [await round_of(known, paced) for _ in rounds(plan.num_rounds, "paced")]
        return summed_up(fast, slow, known)


class Ways(Struct, frozen=True):
    by_name: dict[str, Way]
    http: str
    """What uvicorn runs on."""


@asynccontextmanager
async def ways(num_streams: int) -> AsyncIterator[Ways]:
    """All processes, with all streams open on every way."""
    async with EmbeddedServer() as server, Crew() as crew:
        actor = ActorConfig(server.url, "")
        engine = await crew.start("tokens_engine", actor)
        router = await crew.start("tokens_router", actor)
        mailbox = await crew.start("mailbox_client", actor)
        inboxes = await crew.start("inbox_client", actor)
        sse = await crew.start("sse_server", Ready())
        address = msgspec.json.decode(sse.greeting, type=Address)
        browser = await crew.start("sse_client", address)
        for reader in (mailbox, inboxes, browser):
            await reader.ask(Open(num_streams), msgspec.Raw)
        ours = {"nats_server": server.pid, "engine": engine.pid, "router": router.pid}
        yield Ways(
            {
                "sse": Way(sse, (browser,), {"server": sse.pid, "client": browser.pid}),
                "mailbox": Way(
                    engine, (mailbox, router), {**ours, "client": mailbox.pid}, "msgpack"
                ),
                "inboxes": Way(engine, (inboxes, router), {**ours, "client": inboxes.pid}),
            },
            address.http,
        )


async def round_of(ways: Ways, emit: Emit) -> Round:
    return {name: await cost_of(way, emit) for name, way in ways.by_name.items()}


async def cost_of(way: Way, emit: Emit) -> Cost:
    """From the order to make tokens to the last token at the last reader."""
    num_tokens = emit.num_steps * emit.num_streams
    for reader in way.readers:
        await reader.ask(Collect(num_tokens), Ready)
    before, began_s = _cpu_by_process(way), time.monotonic()
    await way.source.ask(msgspec.structs.replace(emit, encoding=way.encoding), Ready)
    ended_s = max([(await reader.hear(Collected)).at_s for reader in way.readers])
    after = _cpu_by_process(way)
    cpu_us = {name: (after[name] - before[name]) / num_tokens * 1e6 for name in before}
    return Cost(cpu_us, num_tokens / (ended_s - began_s))


def summed_up(fast: Sequence[Round], slow: Sequence[Round], ways: Ways) -> Result:
    """Medians over the rounds; a ratio is taken within each round first."""
    ratios = {
        "cpu_per_token_vs_sse": _ratio(fast, "mailbox"),
        "cpu_per_token_inboxes_vs_sse": _ratio(fast, "inboxes"),
        "paced_cpu_per_token_vs_sse": _ratio(slow, "mailbox"),
        "paced_cpu_per_token_inboxes_vs_sse": _ratio(slow, "inboxes"),
    }
    figures: dict[str, Figure] = {"sse_http": ways.http}
    for name, way in ways.by_name.items():
        figures[f"{name}_cpu_us_per_token"] = statistics.median(r[name].all_us for r in fast)
        for process in way.pids:
            spent = statistics.median(r[name].cpu_us[process] for r in fast)
            figures[f"{name}_{process}_cpu_us_per_token"] = spent
        figures[f"{name}_tokens_per_s"] = statistics.median(r[name].tokens_per_s for r in fast)
        paced = statistics.median(r[name].all_us for r in slow)
        figures[f"{name}_paced_cpu_us_per_token"] = paced
    return Result("tokens", ratios, figures, dict(TARGETS))


def _ratio(rounds: Sequence[Round], name: str) -> float:
    return statistics.median(r[name].all_us / r["sse"].all_us for r in rounds)


def _cpu_by_process(way: Way) -> dict[str, float]:
    return {name: cpu_s(pid) for name, pid in way.pids.items()}
