"""What runs in a gateway's process: the wiring, and nothing else."""

from __future__ import annotations

from bus.interface import Service
from bus.nats import NatsBus
from bus.subjects import Subjects
from observability.names import GATEWAY_SERVICE

from ..clock import monotone
from ..desk import open_desk
from ..kept_versions import kept_versions
from ..metering import metered
from ..opening import open_files
from ..options import GatewayOptions
from ..processes import VERSION, metering, serve, tracing
from ..settings import Settings
from .host import GatewayConfig, GatewayHost
from .live import Sources
from .tracing import Tracer


async def gateway(settings: Settings, options: GatewayOptions) -> None:
    """A gateway, from its options to its end."""
    files = open_files(options.model, settings.cache_dir)
    spells = {files.name: files.tokenizer().bytes_of}
    config = GatewayConfig(
        options.host,
        options.port,
        Subjects(settings.namespace),
        options.keys,
        settings.operator_keys,
    )
    desks, clock = {files.name: open_desk(files)}, monotone()
    with tracing(settings, GATEWAY_SERVICE) as sink:
        async with NatsBus(options.url, name=options.name) as bus:
            traces = None if settings.otlp_endpoint else settings.trace_store
            sources = Sources(traces, await kept_versions(bus, settings.namespace))
            tracer = Tracer(sink, settings.sampling)
            host = GatewayHost(bus, config, desks, spells, clock, sources, tracer)
            what = f"{options.name}: {files.name} by HTTP on {options.host}:{options.port}"
            await bus.announce(Service(GATEWAY_SERVICE, VERSION, what, {"id": options.name}))
            measured = metering(settings, GATEWAY_SERVICE, options.name)
            async with metered(measured, host.points, clock):
                await serve(host, options.name, options.lifeline)
