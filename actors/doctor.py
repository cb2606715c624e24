"""`microserve doctor`: tries what a fleet needs on this machine, one thing after the other.

Everything is tried rather than asked: a broker is started, bytes are put from process to process.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bus.binary import find_server
from bus.connection import without_secret
from bus.interface import BusError, NoResponders, RequestTimedOut
from bus.nats import CannotConnect, NatsBus
from bus.server import EmbeddedServer
from bus.subjects import Subjects
from engine.model_errors import ModelError
from engine.model_files import default_model, open_model
from kvtransport.probe import ANOTHER_MACHINE, probe
from kvtransport.transport import TransportError
from observability.store import TraceStore
from observability.store_errors import StoreError

from .diagnosis import Finding, fault, note, ok
from .fleet_doctor import look_at_fleet
from .options import GatewayOptions
from .settings import Settings
from .supervisor import find_running

SLOW_LANES = ("tcp",)
SMALL_PAYLOAD = 1 << 20
PATIENCE_S = 2.0
GATEWAY_PORT = GatewayOptions("", "").port


class Patient(Struct, frozen=True):
    settings: Settings
    url: str | None
    """The broker to look at; None: the one that is configured or runs here, if any."""
    model: str | None


async def examine(patient: Patient) -> AsyncIterator[Finding]:
    """Findings as they come."""
    yield await asyncio.to_thread(_program)
    async for finding in _broker(patient):
        yield finding
    for look in (_transport, _device, _model, _ports, _traces):
        yield await asyncio.to_thread(look, patient)


# --- the broker ---------------------------------------------------------------------------------


def _program() -> Finding:
    """A server of our own: needed only where no other is given."""
    try:
        path = find_server()
        began_s = time.perf_counter()
        with EmbeddedServer():
            took_ms = (time.perf_counter() - began_s) * 1e3
    except BusError as error:
        return note("nats-server", str(error), "Needed only where no broker is given with --nats.")
    return ok("nats-server", f"{path} starts in {took_ms:.0f} ms on a free port, with JetStream")


async def _broker(patient: Patient) -> AsyncIterator[Finding]:
    url = patient.url or patient.settings.nats_url or find_running(patient.settings)
    if url is None:
        yield note("broker", "none is given and none runs here", "Start one: microserve up")
        return
    try:
        async with NatsBus(url, name="microserve-doctor") as bus:
            yield await _round_trip(bus, url)
            yield _payload(bus)
            yield await _jetstream(bus)
            for finding in await look_at_fleet(bus, Subjects(patient.settings.namespace)):
                yield finding
    except CannotConnect as error:
        yield fault("broker", str(error), "Check the address, the token and the network.")


async def _round_trip(bus: NatsBus, url: str) -> Finding:
    await bus.flush()
    began_s = time.perf_counter()
    await bus.flush()
    took_ms = (time.perf_counter() - began_s) * 1e3
    return ok("broker", f"{without_secret(url)} answers in {took_ms:.1f} ms")


def _payload(bus: NatsBus) -> Finding:
    size = f"takes messages of up to {bus.max_payload >> 10} KiB"
    if bus.max_payload > SMALL_PAYLOAD:
        return ok("broker", size)
    return note("broker", size, "Prompts of 100,000 tokens need more: set max_payload to 8MB.")


async def _jetstream(bus: NatsBus) -> Finding:
    advice = "Start the broker with --jetstream: it keeps versions of strategies."
    try:
        reply = await bus.request("$JS.API.INFO", b"", timeout_s=PATIENCE_S)
        told = msgspec.json.decode(reply.payload)
    except (NoResponders, RequestTimedOut):
        return note("JetStream", "is off", advice)
    if "error" in told:
        return note("JetStream", str(told["error"].get("description", told["error"])), advice)
    return ok("JetStream", f"is on: {told.get('streams', 0)} streams")


# --- this machine -------------------------------------------------------------------------------


def _transport(patient: Patient) -> Finding:
    try:
        found = probe(patient.settings.libucp)
        far = probe(patient.settings.libucp, ANOTHER_MACHINE)
    except TransportError as error:
        return fault("UCX", str(error), "Engines can run with --transport none, and send no KV.")
    what = (
        f"{found.lane} between processes here, {found.gb_per_s:.1f} GB/s (a plain copy"
        f" {found.copy_gb_per_s:.1f}); {far.lane} as between machines, {far.gb_per_s:.1f} GB/s;"
        f" {found.library}"
    )
    if found.lane in SLOW_LANES:
        advice = "Shared memory is out of reach: see 'Limits' in docs/kv.md, and UCX_TLS."
        return note("UCX", what, advice)
    return ok("UCX", what)


def _device(patient: Patient) -> Finding:
    import torch

    cuda = "CUDA is there, and not used yet" if torch.cuda.is_available() else "no CUDA"
    cores = len(os.sched_getaffinity(0))
    free_gib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return ok(
        "device", f"torch {torch.__version__}, {cores} cores, {free_gib:.1f} GiB free; {cuda}"
    )


def _model(patient: Patient) -> Finding:
    try:
        path = patient.model or str(default_model())
        files = open_model(path, cache_dir=patient.settings.cache_dir)
    except ModelError as error:
        return fault("model", str(error), "Give a .gguf file or a Hugging Face folder: --model")
    return ok("model", f"{files.name}, context {files.config.max_context}; {path}")


def _ports(patient: Patient) -> Finding:
    """Where a gateway would listen that is told nothing else."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", GATEWAY_PORT))
        except OSError as error:
            advice = "A gateway there already, or another program: give --port or --http another."
            return note("ports", f"{GATEWAY_PORT} is taken: {error.strerror}", advice)
    return ok("ports", f"{GATEWAY_PORT} is free for a gateway; the broker and engines take any")


def _traces(patient: Patient) -> Finding:
    endpoint = patient.settings.otlp_endpoint
    if endpoint:
        return _collector(endpoint)
    try:
        TraceStore(patient.settings.trace_store).close()
    except StoreError as error:
        return fault("traces", str(error), "Move or delete it, or set MICROSERVE_STATE_DIR.")
    return ok("traces", f"in {patient.settings.trace_store}")


def _collector(endpoint: str) -> Finding:
    try:
        parts = urlsplit(endpoint)
        with socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE_S):
            return ok("traces", f"a collector listens at {endpoint}")
    except (OSError, ValueError) as error:  # ValueError: its port is no port
        advice = "Start it, or unset OTEL_EXPORTER_OTLP_ENDPOINT: traces are then kept here."
        return fault("traces", f"no collector at {endpoint}: {error}", advice)
