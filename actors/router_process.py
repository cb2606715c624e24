"""What runs in a router's process: the wiring, and nothing else."""

from __future__ import annotations

import logging

from bus.interface import Service
from bus.nats import NatsBus
from bus.subjects import Subjects
from observability.metrics import Point
from observability.names import ROUTER_SERVICE
from orchestrations import registry

from .actor_metrics import bus_points, sink_points
from .clock import monotone
from .desk import open_desk
from .kept_versions import kept_versions
from .metering import metered
from .opening import open_files
from .options import RouterOptions
from .processes import VERSION, metering, recording, serve, tracing
from .router import Lasting, RouterHost
from .routing import RouterConfig, RouterCore
from .settings import Settings

logger = logging.getLogger("microserve.router")


async def router(settings: Settings, options: RouterOptions) -> None:
    """A router, from its options to its end."""
    registry.require(options.orchestration)  # an unknown one is told at once, in words
    files = open_files(options.model, settings.cache_dir)
    known, policies = registry.strategies(), registry.policies()
    desk = open_desk(files)
    config = RouterConfig(
        options.name,
        Subjects(settings.namespace),
        options.orchestration,
        options.stall_s,
        sampling=settings.sampling,
    )
    with tracing(settings, ROUTER_SERVICE) as sink, recording(settings) as recorder:
        async with NatsBus(options.url, name=options.name) as bus:
            core = RouterCore(config, known, policies)
            lasting = Lasting(await kept_versions(bus, settings.namespace), recorder)
            host = RouterHost(bus, core, {files.name: desk}, sink, monotone(), lasting=lasting)
            what = f"{options.name}: {options.orchestration}, {files.name}"
            await bus.announce(Service(ROUTER_SERVICE, VERSION, what, {"id": options.name}))

            def points() -> list[Point]:
                return [
                    *host.points(),
                    *bus_points(bus.statistics()),
                    *sink_points(sink.statistics()),
                ]

            measured = metering(settings, ROUTER_SERVICE, options.name, options.metrics)
            async with metered(measured, points, host.clock):
                await serve(host, options.name, options.lifeline)
