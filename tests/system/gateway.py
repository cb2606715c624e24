"""A gateway in front of a fleet in one process, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai

from actors.clock import monotone
from actors.gateway.commanding import IDLE_S
from actors.gateway.host import GatewayConfig, GatewayHost
from actors.gateway.live import Sources
from actors.gateway.tracing import Tracer
from actors.intake import Limits
from actors.router import Desk
from bus.memory import MemoryBus
from observability.sampling import Sampling
from tests.system.fleet import Fleet, Numbers


@asynccontextmanager
async def gateway(
    system: Fleet,
    *keys: str,
    operator_keys: tuple[str, ...] = (),
    sources: Sources | None = None,
    idle_s: float = IDLE_S,
    body_s: float = 60.0,
) -> AsyncIterator[GatewayHost]:
    """At `GatewayHost.url` while the block lasts."""
    async with MemoryBus(system.broker) as bus:
        spells = {system.model: lambda token: f"{token} ".encode()}
        limits = Limits(1024, 1000, ("disaggregated",))
        desks = {system.model: Desk(Numbers(), limits)}
        config = GatewayConfig(
            port=0, keys=keys, operator_keys=operator_keys, body_s=body_s, idle_s=idle_s
        )
        found = sources or Sources(versions=system.versions)
        tracer = Tracer(system.spans, Sampling())
        host = GatewayHost(bus, config, desks, spells, monotone(), found, tracer)
        task = asyncio.create_task(host.run())
        try:
            async with asyncio.timeout(10):
                await host.ready.wait()
            yield host
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def client(host: GatewayHost, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{host.url}/v1", api_key=key, max_retries=0
    ) as connected:
        yield connected
