"""What runs in a router process and in an engine process: the wiring, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, Protocol

import uvloop

from bus.interface import Service
from bus.messages import Beat
from bus.nats import NatsBus
from bus.subjects import Subjects
from bus.transfers import PoolShape
from engine.backend import Backend
from engine.config import EngineConfig
from engine.engine import Engine
from engine.model_files import ModelFiles, open_model
from kvtransport.courier import Courier, CourierConfig
from kvtransport.ucx import UcxTransport
from observability.opening import TracingConfig, open_sink
from observability.sink import SpanSink
from orchestrations.registry import load, strategies

from .clock import monotone
from .engine import EngineHost, Transfers
from .hosting import HostCore
from .intake import Limits
from .options import EngineOptions, PoolTooSmall, RouterOptions
from .router import Desk, RouterHost
from .routing import RouterConfig, RouterCore
from .settings import Settings, grant_key

VERSION = "0.1.0"


class Host(Protocol):
    ready: asyncio.Event

    async def run(self) -> None: ...


def run_until_signalled(main: Coroutine[Any, Any, None]) -> None:
    """Run until it ends, or until SIGINT or SIGTERM asks it to; both end it cleanly."""

    async def guarded() -> None:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    uvloop.run(guarded())


async def serve(host: Host, name: str, lifeline: bool) -> None:
    """Run a host until it is cancelled or, with a lifeline, until standard input ends: whoever
    started us holds the other end, so that we do not outlive it."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(host.run())
        await host.ready.wait()
        sys.stdout.write(f"ready {name}\n")
        sys.stdout.flush()
        if lifeline:
            await _end_of_input()
            work.cancel()


async def _end_of_input() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()


@contextlib.contextmanager
def tracing(settings: Settings, service: str) -> Iterator[SpanSink]:
    """Where this process's spans go; what is pending is written at the end."""
    config = TracingConfig(
        service,
        settings.otlp_endpoint or "",
        settings.otlp_protocol,
        store=settings.trace_store,
    )
    with contextlib.closing(open_sink(config)) as sink:
        yield sink


# --- router -------------------------------------------------------------------------------------


async def router(settings: Settings, options: RouterOptions) -> None:
    """A router, from its options to its end."""
    load(options.orchestration)  # an unknown one is told at once, in words
    files = open_model(options.model, cache_dir=settings.cache_dir)
    known, desk = strategies(), _desk(files)
    config = RouterConfig(
        options.name, Subjects(settings.namespace), options.orchestration, options.stall_s
    )
    with tracing(settings, "microserve-router") as sink:
        async with NatsBus(options.url, name=options.name) as bus:
            core = RouterCore(config, known)
            host = RouterHost(bus, core, {files.name: desk}, sink, monotone())
            await bus.announce(Service("microserve-router", VERSION, metadata={"id": options.name}))
            await serve(host, options.name, options.lifeline)


def _desk(files: ModelFiles) -> Desk:
    config = files.config
    known = tuple(sorted(strategies()))
    return Desk(files.tokenizer(), Limits(config.max_context, config.vocab_size, known))


# --- engine -------------------------------------------------------------------------------------


class EngineProcess:
    """The parts of one engine and how they fit together."""

    def __init__(self, settings: Settings, options: EngineOptions) -> None:
        """Opens the model; its weights are loaded by `run`.

        Raises:
            ModelError: it cannot be had or is of a kind that is not computed here.
        """
        self.settings, self.options = settings, options
        self.clock, self.epoch = monotone(), time.time_ns() // 1_000_000
        """The epoch grows with every restart: that is all that is asked of it."""
        self.files = open_model(options.model, cache_dir=settings.cache_dir)
        self.shape = self._shape()

    async def run(self) -> None:
        transfers = Transfers(asyncio.get_running_loop())
        service = f"microserve-engine-{self.options.name}"
        with self._courier(transfers) as courier, tracing(self.settings, service) as sink:
            engine = self._engine(courier)
            await self._serve(engine, transfers, sink)
            engine.check_integrity()

    async def _serve(self, engine: Engine, transfers: Transfers, sink: SpanSink) -> None:
        options = self.options
        core = HostCore(options.name, self.epoch, engine, Subjects(self.settings.namespace))
        about = {"id": options.name, "role": options.role, "epoch": str(self.epoch)}
        async with NatsBus(options.url, name=options.name) as bus:
            host = EngineHost(bus, core, engine, partial(self._beat, engine), sink, self.clock)
            transfers.listen(host.transferred)
            await bus.announce(Service("microserve-engine", VERSION, metadata=about))
            await serve(host, options.name, options.lifeline)

    def _shape(self) -> PoolShape:
        one = self._pool_shape(1)
        num_pages = self.options.kv_bytes // one.num_bytes
        if num_pages < 1:
            raise PoolTooSmall(self.options.kv_bytes, one.num_bytes)
        return self._pool_shape(num_pages)

    def _pool_shape(self, num_pages: int) -> PoolShape:
        options = self.options
        return self.files.pool_shape(num_pages, options.page_size, options.dtype, options.weights)

    @contextlib.contextmanager
    def _courier(self, transfers: Transfers) -> Iterator[Courier | None]:
        """The KV transport, where one is wanted."""
        if self.options.transport == "none":
            yield None
            return
        key = grant_key(self.settings, self.options.url)
        config = CourierConfig(self.options.name, self.epoch, self.shape, key)
        transport = UcxTransport(self.settings.libucp)
        with Courier(config, transport, self.clock, transfers) as courier:
            yield courier

    def _engine(self, courier: Courier | None) -> Engine:
        # Torch takes seconds to import and is needed nowhere else.
        from engine.opening import open_arithmetic
        from engine.torch_runner import TorchRunner

        options = self.options
        runner = TorchRunner(
            self.files,
            self.shape,
            device=options.device,
            dtype=options.dtype,
            buffer=courier.buffer if courier else None,
            arithmetic=open_arithmetic(self.files.config, self._backend()),
        )
        running = min(64, options.max_batch_tokens)
        config = EngineConfig(options.name, self.epoch, options.max_batch_tokens, running)
        return Engine(config, runner, self.files.tokenizer().detokenizer, courier, self.clock)

    def _backend(self) -> Backend:
        return Backend(
            cache_dir=self.settings.cache_dir,
            device=self.options.device,
            dtype=self.options.dtype,
            weights=self.options.weights,
            threads=self.options.threads,
            native=self.options.kernels,
        )

    def _beat(self, engine: Engine) -> Beat:
        now = engine.statistics()
        return Beat(
            engine=self.options.name,
            epoch=self.epoch,
            model=self.files.name,
            role=self.options.role,
            load=now.load,
            free_pages=now.available_pages,
            total_pages=now.total_pages,
            page_size=self.shape.page_size,
            max_context=self.files.config.max_context,
            compatibility=self.shape.fingerprint,
        )
