"""A router and one engine on a real broker, in the test's own process, and a line to the broker
that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from actors.badge import Badge
from actors.clock import monotone
from actors.engine import EngineHost
from actors.hosting import HostCore
from actors.intake import Limits
from actors.patience import Patience
from actors.recorder import MemoryRecorder
from actors.router import Desk, Lasting, RouterHost
from actors.routing import RouterConfig, RouterCore
from actors.version_store import VersionStore
from bus.interface import Service
from bus.memory_buckets import MemoryBuckets
from bus.nats import NatsBus
from bus.subjects import Subjects
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import Cost, FakeDetokenizer, FakeRunner, fake_card
from observability.sink import MemorySink
from orchestrations.registry import strategies

from .fleet import Numbers

CARD = fake_card(num_pages=64, page_size=4)
MODEL = CARD.name
PATIENCE_S = 10.0


class Pace:
    """Holds an engine up before it computes the step after the first ``steps``, until `go`."""

    def __init__(self, steps: int) -> None:
        self._layers = steps * CARD.shape.num_layers
        self._going = threading.Event()

    def __call__(self, _: float) -> None:
        """For `FakeRunner`, once a layer, on the device's thread."""
        self._layers -= 1
        if self._layers < 0:
            self._going.wait(PATIENCE_S)

    def go(self) -> None:
        self._going.set()


@dataclass
class Served:
    router: RouterCore
    engine: Engine
    engines_bus: NatsBus
    routers_bus: NatsBus

    @property
    def is_connected(self) -> bool:
        return all(b.statistics().connected for b in (self.engines_bus, self.routers_bus))

    async def ended(self) -> None:
        """Returns when every flow is over."""
        async with asyncio.timeout(PATIENCE_S):
            while self.router.flows or self.engine.statistics().used_pages:  # noqa: ASYNC110
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def served(url: str, pace: Pace | None = None) -> AsyncIterator[Served]:
    """`CARD`'s model on one engine, for the broker at ``url``. Its pages are checked at the end."""
    async with NatsBus(url, name="e0") as theirs, NatsBus(url, name="r0") as ours:
        store = await VersionStore.open(MemoryBuckets(), "ms")
        router = RouterCore(RouterConfig("r0", default="data_parallel"), strategies())
        desks = {MODEL: Desk(Numbers(), Limits(CARD.max_context, CARD.vocab_size, ()))}
        lasting, patience = Lasting(store, MemoryRecorder()), Patience(settle_s=0)
        host = RouterHost(ours, router, desks, MemorySink(), monotone(), patience, lasting)
        member, engine = _engine(theirs, pace)
        await theirs.announce(Service("microserve-engine", "1.0.0", f"e0: both, {MODEL}"))
        async with _running(host, member):
            async with asyncio.timeout(PATIENCE_S):
                while not router.roster.seen:  # noqa: ASYNC110 - its beat is on its way
                    await asyncio.sleep(0.005)
            yield Served(router, engine, theirs, ours)
        engine.check_integrity()
        router.check_integrity()


def _engine(bus: NatsBus, pace: Pace | None) -> tuple[EngineHost, Engine]:
    clock, runner = monotone(), FakeRunner(CARD, None, Cost(), pace)
    engine = Engine(EngineConfig("e0", 1), runner, FakeDetokenizer, None, clock)
    badge = Badge("e0", 1, MODEL, "both", CARD.shape.page_size, CARD.max_context, "c", 64)
    core = HostCore("e0", 1, engine, Subjects())
    beat = lambda: badge.beat(engine.statistics())  # noqa: E731 - one line, handed on
    return EngineHost(bus, core, engine, beat, MemorySink(), clock), engine


@contextlib.asynccontextmanager
async def _running(*hosts: RouterHost | EngineHost) -> AsyncIterator[None]:
    """One that fails ends the block at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(host.run()) for host in hosts]
        for host in hosts:
            await host.ready.wait()
        yield
        for task in tasks:
            task.cancel()


class Line:
    """A way to the broker at ``url`` through a port of its own, which can be cut and mended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._token = parts.hostname, parts.port, parts.username
        self._own_port = 0
        self._ends: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"nats://{self._token}@127.0.0.1:{self._own_port}"

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()

    def cut(self) -> None:
        """Whoever is connected loses it in the middle, and others are refused until `mend`."""
        self._server.close()
        for end in self._ends:
            end.transport.abort()

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._own_port)
        self._own_port = self._server.sockets[0].getsockname()[1]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        self._ends -= ends


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until either end is gone; then the other one goes, too."""
    try:
        with contextlib.suppress(ConnectionError):  # as `Line.cut` does it
            while part := await source.read(65_536):
                sink.write(part)
                await sink.drain()
    finally:
        sink.transport.abort()
