"""An actor's points on their way out: to a collector by OTLP, and to whoever reads ``/metrics``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from msgspec import Struct

from observability import prometheus
from observability.metrics import Point
from observability.sink import OtlpProtocol

from .clock import Clock

logger = logging.getLogger("microserve.metrics")

METRICS_PATH = "/metrics"


class Metering(Struct, frozen=True):
    """With neither an endpoint nor an address, nothing is measured for anybody."""

    service: str
    instance: str
    """The actor's name."""
    endpoint: str = ""
    """Of an OTLP collector that takes metrics."""
    protocol: OtlpProtocol = "http/protobuf"
    interval_s: float = 15.0
    address: tuple[str, int] | None = None
    """Where Prometheus may read; port 0 takes a free one."""


@contextlib.asynccontextmanager
async def metered(
    config: Metering, points: Callable[[], list[Point]], clock: Clock
) -> AsyncIterator[str]:
    """Lets the points of ``points`` be had while the block runs; yields the URL where, or "".

    Raises:
        BadEndpoint: the collector's address is none.
        OSError: the address is taken.
    """
    async with contextlib.AsyncExitStack() as stack:
        url = ""
        if config.address is not None:
            url = await stack.enter_async_context(_page(config.address, points))
        if config.endpoint:
            await stack.enter_async_context(_exported(config, points, clock))
        yield url


@contextlib.asynccontextmanager
async def _page(address: tuple[str, int], points: Callable[[], list[Point]]) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Type": prometheus.CONTENT_TYPE}
        return web.Response(body=prometheus.text(points()).encode(), headers=headers)

    app = web.Application()
    app.add_routes([web.get(METRICS_PATH, answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}{METRICS_PATH}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _exported(
    config: Metering, points: Callable[[], list[Point]], clock: Clock
) -> AsyncIterator[None]:
    """What there is at the end is sent, too."""
    # OpenTelemetry's exporters take a noticeable part of a start.
    from observability.otlp_metrics import OtlpMetrics

    resource = {"service.name": config.service, "service.instance.id": config.instance}
    exporter = OtlpMetrics(config.endpoint, config.protocol, resource, clock())

    def offer() -> None:
        try:
            exporter.offer(points(), clock())
        except Exception:  # one point that cannot be made costs neither the actor nor later ones
            logger.exception("%s: what it measures could not be told", config.instance)

    async def offers() -> None:
        while True:
            await asyncio.sleep(config.interval_s)
            offer()

    task = asyncio.create_task(offers())
    try:
        yield
    finally:
        task.cancel()
        offer()
        await asyncio.to_thread(exporter.close)
