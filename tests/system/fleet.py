"""A whole system in one process: real cores and shells, a real KV transfer protocol, the in-memory
twins of broker and network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from actors.badge import Badge
from actors.cachenews import CacheNews
from actors.client import Client
from actors.clock import monotone
from actors.door import Door
from actors.engine import EngineHost, NewsFeed
from actors.hosting import HostCore
from actors.intake import Limits, Tokenizer
from actors.patience import Patience
from actors.recorder import MemoryRecorder
from actors.router import Desk, Lasting, RouterHost
from actors.routing import RouterConfig, RouterCore
from actors.version_store import VersionStore
from bus.fleet import Role
from bus.memory import MemoryBroker, MemoryBus
from bus.memory_buckets import MemoryBuckets
from bus.messages import Beat
from bus.public import ChatMessage, Delta, Done, GenerateRequest
from bus.subjects import Subjects
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import Cost, FakeDetokenizer, FakeRunner, fake_card
from engine.runner import Detokenizer, ModelCard, Runner
from kvtransport.courier import Courier, CourierConfig
from kvtransport.memory import MemoryNetwork, MemoryTransport
from observability.sampling import Sampling
from observability.sink import MemorySink
from observability.spans import Span
from orchestrations.registry import strategies

PAIR: Mapping[str, Role] = {"p0": "prefill", "d0": "decode"}


class Numbers:
    """The fake model's tokenizer: a text is its bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat(self, messages: Sequence[ChatMessage], tools: object = ()) -> list[int]:
        return self.encode("".join(m.content for m in messages))


@dataclass(frozen=True)
class Model:
    """What the engines of a fleet compute, and what its router knows of it."""

    card: ModelCard
    runner: Callable[[memoryview], Runner]
    detokenizer: Callable[[], Detokenizer]
    tokenizer: Tokenizer = field(default_factory=Numbers)
    checksums: bool = False
    """Whether KV is checked."""
    slots: int = 64
    """Of each engine."""


NO_OTHERS: Mapping[str, Model] = MappingProxyType({})


def fake_model(num_pages: int = 256, step_s: float = 0.0) -> Model:
    """``step_s`` is what each step really takes, where a test must meet an engine at work."""
    card, cost = fake_card(num_pages=num_pages, page_size=4), Cost(step_s)
    pause = time.sleep if step_s else None
    return Model(card, lambda buffer: FakeRunner(card, buffer, cost, pause), FakeDetokenizer)


@dataclass
class Member:
    """One engine of the fleet."""

    name: str
    engine: Engine
    broker: MemoryBroker
    bus: MemoryBus
    transport: MemoryTransport
    task: asyncio.Task[None]
    core: HostCore

    def kill(self) -> None:
        """As kill -9 does: no goodbye, neither on the bus nor to peers."""
        self.broker.disconnect(self.bus)
        self.transport.die()
        self.task.cancel()


@dataclass
class Fleet:
    broker: MemoryBroker
    router: RouterCore
    members: dict[str, Member]
    client: Client
    model: str
    spans: MemorySink
    versions: VersionStore
    recorder: MemoryRecorder
    host: RouterHost
    more_routers: tuple[RouterCore, ...] = ()
    """Besides ``router``."""

    async def ask(self, request: GenerateRequest) -> tuple[list[int], Done]:
        """The whole answer: its tokens, and its last word."""
        tokens: list[int] = []
        async for message in self.client.generate(self.model, request):
            if isinstance(message, Delta):
                assert message.offset == len(tokens)
                tokens += message.tokens
            elif isinstance(message, Done):
                return tokens, message
        raise AssertionError("the answer had no end")

    async def idle(self, *but: str) -> None:
        """Returns when no engine but ``but`` holds a page for anyone."""
        async with asyncio.timeout(10):
            others = [m.engine for m in self.members.values() if m.name not in but]
            while any(map(_busy, others)):  # noqa: ASYNC110 - an engine tells nobody that it is idle
                await asyncio.sleep(0.01)

    async def settled(self, *but: str) -> None:
        """Returns when, besides, the router has ended every flow, and every command that was sent
        has its span, but for those to ``but``. Not for flows that were begun again: an engine has
        no span of an order of an attempt that is over."""
        await self.ended(*but)
        async with asyncio.timeout(10):
            while not all(map(self._is_told, self._sent(but))):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)

    async def ended(self, *but: str) -> None:
        """Returns when engines are idle and the router has ended every flow."""
        await self.idle(*but)
        async with asyncio.timeout(10):
            while self.router.flows:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)

    def _sent(self, but: tuple[str, ...]) -> list[Span]:
        sent = [s for s in self.spans.spans if s.kind == "producer" and s.context.sampled]
        return [span for span in sent if span.attributes["microserve.engine"] not in but]

    def _is_told(self, sent: Span) -> bool:
        return any(span.parent == sent.context for span in self.spans.spans)


def _busy(engine: Engine) -> bool:
    now = engine.statistics()
    return bool(now.flows or now.used_pages or now.granted_pages or engine.has_work)


@asynccontextmanager
async def fleet(
    model: Model,
    engines: Mapping[str, Role] = PAIR,
    default: str = "disaggregated",
    *,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    others: Mapping[str, Model] = NO_OTHERS,
    network: MemoryNetwork | None = None,
    more_routers: Sequence[str] = (),
) -> AsyncIterator[Fleet]:
    """Up when it is entered. At the end every engine's pages are checked.

    Engines named in ``others`` compute the model in that way.
    """
    broker, network, sink = MemoryBroker(), network or MemoryNetwork(), MemorySink()
    async with AsyncExitStack() as stack, _ended_first() as tasks:
        store = await VersionStore.open(MemoryBuckets(), "ms")
        recorder = MemoryRecorder()
        lasting = Lasting(store, recorder)
        host, *more = [
            await _router(stack, tasks, (broker, sink), model, (default, sampling), lasting, name)
            for name in ("r0", *more_routers)
        ]
        members = {
            name: await _member(
                stack, tasks, (broker, network, sink), others.get(name, model), name, role
            )
            for name, role in engines.items()
        }
        for one in (host, *more):
            await _known(one.core, members)
        bus = await stack.enter_async_context(MemoryBus(broker))
        client = await stack.enter_async_context(Client(bus))
        router = host.core
        more_cores = tuple(one.core for one in more)
        yield Fleet(
            broker, router, members, client, model.card.name, sink, store, recorder, host,
            more_cores,
        )  # fmt: skip
        for member in members.values():
            member.engine.check_integrity()
        for core in (router, *more_cores):
            core.check_integrity()


async def _known(router: RouterCore, members: Iterable[str]) -> None:
    """Returns when the router has heard of all of these engines."""
    async with asyncio.timeout(10):
        while not set(members) <= set(router.roster.seen):  # noqa: ASYNC110 - beats are on their way
            await asyncio.sleep(0)


@asynccontextmanager
async def _ended_first() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end before what they use is closed; a failure of one is the block's."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _member(
    stack: AsyncExitStack,
    tasks: list[asyncio.Task[None]],
    outside: tuple[MemoryBroker, MemoryNetwork, MemorySink],
    model: Model,
    name: str,
    role: Role,
) -> Member:
    broker, network, sink = outside
    clock, transfers = monotone(), NewsFeed(asyncio.get_running_loop())
    transport = network.transport()
    config = CourierConfig(name, 1, model.card.shape, b"key", checksums=model.checksums)
    courier = stack.enter_context(Courier(config, transport, clock, transfers))
    runner = model.runner(courier.buffer)
    engine = Engine(
        EngineConfig(name, 1, max_running=model.slots), runner, model.detokenizer, courier, clock
    )
    bus = await stack.enter_async_context(MemoryBus(broker))

    card, slots = model.card, model.slots
    core = HostCore(name, 1, engine, Subjects(), Door(slots, engine.holds))
    news = CacheNews(name, 1, engine, Subjects())
    badge = Badge(
        name,
        1,
        card.name,
        role,
        card.shape.page_size,
        card.max_context,
        "c",
        slots,
        card.shape.token_bytes,
    )

    def beat() -> Beat:
        return badge.beat(engine.statistics(), news.sequence)

    host = EngineHost(bus, core, engine, beat, sink, clock, news)
    transfers.listen(host.heard)
    task = asyncio.create_task(host.run())
    tasks.append(task)
    await host.ready.wait()
    return Member(name, engine, broker, bus, transport, task, core)


async def _router(
    stack: AsyncExitStack,
    tasks: list[asyncio.Task[None]],
    outside: tuple[MemoryBroker, MemorySink],
    model: Model,
    chosen: tuple[str, Sampling],
    lasting: Lasting,
    name: str = "r0",
) -> RouterHost:
    broker, sink = outside
    bus = await stack.enter_async_context(MemoryBus(broker))
    known = strategies()
    limits = Limits(model.card.max_context, model.card.vocab_size, tuple(known))
    core = RouterCore(RouterConfig(name, default=chosen[0], sampling=chosen[1]), known)
    desks = {model.card.name: Desk(model.tokenizer, limits)}
    # It is there before the engines, and hears of each when it begins: nothing to wait for.
    host = RouterHost(bus, core, desks, sink, monotone(), Patience(settle_s=0), lasting)
    tasks.append(asyncio.create_task(host.run()))
    await host.ready.wait()
    return host
