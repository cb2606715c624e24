"""What runs in a router process and in an engine process: the wiring, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import uvloop

from bus.interface import BusError, Service
from bus.jetstream import JetStreamBuckets
from bus.messages import Beat
from bus.nats import NatsBus
from bus.subjects import Subjects
from bus.transfers import PoolShape
from engine.backend import Backend
from engine.config import EngineConfig
from engine.engine import Engine
from engine.free_memory import free_bytes
from engine.grammar import GrammarCompiler
from engine.kv_memory import Demand, kv_pages
from engine.model_files import DTYPE_BYTES, ModelFiles, open_model
from engine.page_store import PageStore, StoreShape
from engine.weights_size import num_weights
from kvtransport.courier import Courier, CourierConfig
from kvtransport.ucx import UcxTransport
from observability.opening import TracingConfig, open_sink
from observability.sink import SpanSink
from orchestrations.policy import policy as chosen_by_policy
from orchestrations.registry import load, strategies

from .badge import Badge
from .cachenews import CacheNews
from .clock import monotone
from .engine import EngineHost, NewsFeed
from .gateway.host import GatewayConfig, GatewayHost
from .gateway.live import Sources
from .hosting import HostCore
from .intake import Limits
from .options import EngineOptions, GatewayOptions, RouterOptions
from .recorder import Recorder, StoreRecorder
from .recordings import RecordingError, RecordingStore
from .router import Desk, Lasting, RouterHost
from .routing import RouterConfig, RouterCore
from .settings import Settings, grant_key
from .version_store import VersionStore

logger = logging.getLogger("microserve.router")

VERSION = "0.1.0"
POLICY = "policy"
"""As a router's orchestration: ask `orchestrations.policy` for every request that names none."""
FALLBACK = "data_parallel"
"""What serves where the policy fails."""


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


@contextlib.contextmanager
def recording(settings: Settings) -> Iterator[Recorder | None]:
    """Where a router's flows are kept; None, and a word in the log, where that cannot be had."""
    try:
        recorder = StoreRecorder(RecordingStore(settings.recordings))
    except RecordingError as error:
        logger.warning("flows are not recorded: %s", error)
        yield None
        return
    with contextlib.closing(recorder):
        yield recorder


# --- router -------------------------------------------------------------------------------------


async def router(settings: Settings, options: RouterOptions) -> None:
    """A router, from its options to its end."""
    policy = chosen_by_policy if options.orchestration == POLICY else None
    default = FALLBACK if policy else options.orchestration
    load(default)  # an unknown one is told at once, in words
    files = open_model(options.model, cache_dir=settings.cache_dir)
    known, desk = strategies(), _desk(files)
    config = RouterConfig(options.name, Subjects(settings.namespace), default, options.stall_s)
    with tracing(settings, "microserve-router") as sink, recording(settings) as recorder:
        async with NatsBus(options.url, name=options.name) as bus:
            core = RouterCore(config, known, policy)
            lasting = Lasting(await _versions(bus, settings), recorder)
            host = RouterHost(bus, core, {files.name: desk}, sink, monotone(), lasting=lasting)
            await bus.announce(Service("microserve-router", VERSION, metadata={"id": options.name}))
            await serve(host, options.name, options.lifeline)


async def _versions(bus: NatsBus, settings: Settings) -> VersionStore | None:
    """None, and a word in the log, where the broker keeps nothing."""
    try:
        return await VersionStore.open(JetStreamBuckets(bus), settings.namespace)
    except BusError as error:
        logger.warning("orchestrations are those that are installed: %s", error)
        return None


def _desk(files: ModelFiles) -> Desk:
    config = files.config
    known = tuple(sorted(strategies()))
    return Desk(files.tokenizer(), Limits(config.max_context, config.vocab_size, known))


# --- gateway ------------------------------------------------------------------------------------


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
        sources = Sources(traces, await _versions(bus, settings))
        host = GatewayHost(bus, config, {files.name: _desk(files)}, spells, monotone(), sources)
        about = {"id": options.name}
        await bus.announce(Service("microserve-gateway", VERSION, metadata=about))
        await serve(host, options.name, options.lifeline)


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
        adapters = {name: Path(folder) for name, folder in options.adapters}
        self.files = open_model(options.model, cache_dir=settings.cache_dir, adapters=adapters)
        self.shape = self._shape()

    async def run(self) -> None:
        feed = NewsFeed(asyncio.get_running_loop())
        service = f"microserve-engine-{self.options.name}"
        with (
            self._courier(feed) as courier,
            self._compiler(feed) as compiler,
            self._store() as store,
            tracing(self.settings, service) as sink,
        ):
            engine = self._engine(courier, compiler, store)
            await self._serve(engine, feed, sink)
            engine.check_integrity()

    async def _serve(self, engine: Engine, feed: NewsFeed, sink: SpanSink) -> None:
        options = self.options
        subjects = Subjects(self.settings.namespace)
        core = HostCore(options.name, self.epoch, engine, subjects)
        news = CacheNews(options.name, self.epoch, engine, subjects)
        beat = partial(self._beat, engine, self._badge(), news)
        about = {"id": options.name, "role": options.role, "epoch": str(self.epoch)}
        async with NatsBus(options.url, name=options.name) as bus:
            host = EngineHost(bus, core, engine, beat, sink, self.clock, news)
            feed.listen(host.heard)
            await bus.announce(Service("microserve-engine", VERSION, metadata=about))
            await serve(host, options.name, options.lifeline)

    def _shape(self) -> PoolShape:
        options, files, one = self.options, self.files, self._pool_shape(1)
        weights_bytes = num_weights(files.weights) * DTYPE_BYTES[options.dtype]
        demand = Demand(files.name, options.dtype, weights_bytes, one.num_bytes)
        free = free_bytes(options.device)
        if options.device == "cpu" and options.tier_file is None:
            free -= options.tier.num_bytes
        num_pages = kv_pages(options.kv_memory, demand, free)
        return self._pool_shape(num_pages)

    def _pool_shape(self, num_pages: int) -> PoolShape:
        options = self.options
        return self.files.pool_shape(num_pages, options.page_size, options.dtype, options.weights)

    @contextlib.contextmanager
    def _store(self) -> Iterator[PageStore | None]:
        """The second tier, where one is wanted."""
        slot_bytes = self.shape.num_layers * self.shape.page_bytes
        num_slots = self.options.tier.num_bytes // slot_bytes
        if num_slots == 0:
            yield None
            return
        shape = StoreShape(num_slots, slot_bytes, self.shape.fingerprint)
        path = self.options.tier_file
        store = PageStore.in_file(path, shape) if path else PageStore.in_memory(shape)
        with contextlib.closing(store):
            yield store

    @contextlib.contextmanager
    def _courier(self, feed: NewsFeed) -> Iterator[Courier | None]:
        """The KV transport, where one is wanted."""
        if self.options.transport == "none":
            yield None
            return
        key = grant_key(self.settings, self.options.url)
        config = CourierConfig(self.options.name, self.epoch, self.shape, key)
        transport = UcxTransport(self.settings.libucp)
        with Courier(config, transport, self.clock, feed) as courier:
            yield courier

    def _compiler(self, feed: NewsFeed) -> GrammarCompiler:
        tokenizer, vocab_size = self.files.tokenizer(), self.files.config.vocab_size
        return GrammarCompiler(tokenizer.document, vocab_size, tokenizer.end_tokens, feed)

    def _engine(
        self, courier: Courier | None, compiler: GrammarCompiler, store: PageStore | None
    ) -> Engine:
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
        tokenizer = self.files.tokenizer()
        pinned = [np.array(tokenizer.encode(text), np.int32) for text in options.pin]
        config = EngineConfig(
            options.name,
            self.epoch,
            options.max_batch_tokens,
            self._slots,
            inter_token_s=options.inter_token_s,
            draft_tokens=options.draft_tokens,
            pinnable_pages=sum(len(prefix) // options.page_size for prefix in pinned),
        )
        engine = Engine(config, runner, tokenizer.detokenizer, courier, self.clock, compiler, store)
        for prefix in pinned:
            engine.pin(prefix)
        return engine

    def _backend(self) -> Backend:
        return Backend(
            cache_dir=self.settings.cache_dir,
            device=self.options.device,
            dtype=self.options.dtype,
            weights=self.options.weights,
            threads=self.options.threads,
            native=self.options.kernels,
        )

    @property
    def _slots(self) -> int:
        return min(64, self.options.max_batch_tokens)

    def _badge(self) -> Badge:
        return Badge(
            engine=self.options.name,
            epoch=self.epoch,
            model=self.files.name,
            role=self.options.role,
            page_size=self.shape.page_size,
            max_context=self.files.config.max_context,
            compatibility=self.shape.fingerprint,
            slots=self._slots,
            kv_bytes_per_token=self.shape.token_bytes,
            group=self.options.group,
        )

    def _beat(self, engine: Engine, badge: Badge, news: CacheNews) -> Beat:
        return badge.beat(engine.statistics(), news.sequence)
