"""What runs in an engine's process: its parts, and how they fit together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bus.compatibility import NO_TRANSPORT, Compatibility
from bus.interface import Service
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
from engine.page_store import PageStore, StoreShape
from engine.progress import Progress
from engine.statistics import EngineStatistics
from engine.weights_size import weights_bytes
from kvtransport.courier import Courier, CourierConfig
from kvtransport.protocol import VERSION as PROTOCOL
from kvtransport.ucx import UcxTransport
from observability.metrics import Point
from observability.names import engine_service
from observability.sink import SpanSink

from .actor_metrics import bus_points, sink_points
from .badge import Badge
from .cachenews import CacheNews
from .clock import monotone
from .door import Door
from .engine import EngineHost, NewsFeed
from .engine_metrics import engine_points
from .first_words import loading
from .hosting import HostCore
from .metering import metered
from .opening import open_files
from .options import EngineOptions
from .processes import VERSION, metering, serve, tracing
from .progress import loading_bar
from .settings import Settings, grant_key


class EngineProcess:
    """The parts of one engine and how they fit together."""

    def __init__(self, settings: Settings, options: EngineOptions) -> None:
        """Opens the model; its weights are loaded by `run`.

        Raises:
            ModelError: it cannot be had or is of a kind that is not computed here.
        """
        self.settings, self.options = settings, options
        self._transport = NO_TRANSPORT
        self.clock, self.epoch = monotone(), time.time_ns() // 1_000_000
        """The epoch grows with every restart: that is all that is asked of it."""
        adapters = {name: Path(folder) for name, folder in options.adapters}
        self.files = open_files(options.model, settings.cache_dir, adapters)
        self.shape = self._shape()
        self._latest: EngineStatistics
        """As of the newest beat: between two steps, when it may be asked."""

    async def run(self) -> None:
        feed = NewsFeed(asyncio.get_running_loop())
        service = engine_service(self.options.name)
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
        door = Door(self._slots, engine.holds)
        core = HostCore(options.name, self.epoch, engine, subjects, door)
        news = CacheNews(options.name, self.epoch, engine, subjects)
        beat = partial(self._beat, engine, self._badge(), news)
        about = {"id": options.name, "role": options.role, "epoch": str(self.epoch)}
        async with NatsBus(options.url, name=options.name) as bus:
            host = EngineHost(bus, core, engine, beat, sink, self.clock, news)
            feed.listen(host.heard)
            what = f"{options.name}: {options.role}, {self.files.name}"
            await bus.announce(Service("microserve-engine", VERSION, what, about))

            def points() -> list[Point]:
                told = {"engine": options.name, "model": self.files.name}
                own = engine_points(self._latest, core.statistics(), told)
                return [*own, *bus_points(bus.statistics()), *sink_points(sink.statistics())]

            service = engine_service(options.name)
            measured = metering(self.settings, service, options.name, options.metrics)
            async with metered(measured, points, self.clock):
                await serve(host, options.name, options.lifeline)

    def _shape(self) -> PoolShape:
        options, files, one = self.options, self.files, self._pool_shape(1)
        num_bytes = weights_bytes(files, self._backend())
        demand = Demand(files.name, options.dtype, num_bytes, one.num_bytes)
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
        config = courier_config(self.options, self.epoch, self.shape, key)
        transport = UcxTransport(self.settings.libucp)
        self._transport = f"ucx {transport.version}"
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
        arithmetic = open_arithmetic(self.files.config, self._backend())
        with self._loading() as report:
            runner = TorchRunner(
                self.files,
                self.shape,
                device=options.device,
                dtype=options.dtype,
                buffer=courier.buffer if courier else None,
                arithmetic=arithmetic,
                progress=report,
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

    def _loading(self) -> contextlib.AbstractContextManager[Progress]:
        """Whoever started us for a fleet shows how far all of it is."""
        name = self.options.name
        return contextlib.nullcontext(loading()) if self.options.lifeline else loading_bar(name)

    def _backend(self) -> Backend:
        return Backend(
            cache_dir=self.settings.cache_dir,
            device=self.options.device,
            dtype=self.options.dtype,
            weights=self.options.weights,
            threads=self.options.threads,
            native=self.options.kernels,
            invariant=self.options.invariant,
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
            compatibility=self._kv().kind(self.options.name),
            slots=self._slots,
            kv_bytes_per_token=self.shape.token_bytes,
            group=self.options.group,
            adapters=tuple(sorted(self.files.adapters)),
            kv=self._kv(),
        )

    def _kv(self) -> Compatibility:
        assert self.shape.layout is not None
        return Compatibility(
            layout=self.shape.layout,
            num_layers=self.shape.num_layers,
            page_size=self.shape.page_size,
            protocol=PROTOCOL,
            transport=self._transport,
        )

    def _beat(self, engine: Engine, badge: Badge, news: CacheNews) -> Beat:
        self._latest = engine.statistics()
        return badge.beat(self._latest, news.sequence)


def courier_config(
    options: EngineOptions, epoch: int, shape: PoolShape, key: bytes
) -> CourierConfig:
    return CourierConfig(
        options.name,
        epoch,
        shape,
        key,
        checksums=options.kv_checksums,
        max_bytes_per_s=options.kv_max_bytes_per_s,
    )
