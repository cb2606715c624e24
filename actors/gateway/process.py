"""What runs in a gateway's process: the wiring, and nothing else."""

from __future__ import annotations

from bus.interface import Service
from bus.nats import NatsBus
from bus.subjects import Subjects
from engine.model_files import open_model

from ..clock import monotone
from ..desk import open_desk
from ..kept_versions import kept_versions
from ..metering import metered
from ..options import GatewayOptions
from ..processes import VERSION, metering, serve
from ..settings import Settings
from .host import GatewayConfig, GatewayHost
from .live import Sources


async def gateway(settings: Settings, options: GatewayOptions) -> None:
    """A gateway, from its options to its end."""
    files = open_model(options.model, cache_dir=settings.cache_dir)
    spells = {files.name: files.tokenizer().bytes_of}
    config = GatewayConfig(
        options.host,
        options.port,
        Subjects(settings.namespace),
        options.keys,
        settings.operator_keys,
    )
    async with NatsBus(options.url, name=options.name) as bus:
        traces = None if settings.otlp_endpoint else settings.trace_store
        sources = Sources(traces, await kept_versions(bus, settings.namespace))
        desks = {files.name: open_desk(files)}
        host = GatewayHost(bus, config, desks, spells, monotone(), sources)
        about = {"id": options.name}
        await bus.announce(Service("microserve-gateway", VERSION, metadata=about))
        measured = metering(settings, "microserve-gateway", options.name)
        async with metered(measured, host.points, monotone()):
            await serve(host, options.name, options.lifeline)
