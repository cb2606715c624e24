"""Engines on the fake model, driven by hand and checked after every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bus.messages import (
    AnyCommand,
    EngineEvent,
    Mailbox,
    Order,
    Prepared,
    PrepRecv,
    RemoteSend,
    Sampling,
    StartGenerate,
)
from bus.public import Delta, Done
from bus.tokens import Tokens
from bus.transfers import TransferEvent
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import Cost, FakeDetokenizer, FakeRunner, fake_card
from engine.fake_wire import FakeNetwork
from engine.outcomes import Outcome, Output, Told
from engine.page_memory import PageBytes
from engine.page_store import PageStore
from engine.runner import ModelCard
from engine.statistics import EngineStatistics

from .device import store_for

BOX = Mailbox("box")


class SlowStore:
    """A store that takes time to give something back."""

    def __init__(self, store: PageStore, wait: Callable[[], None]) -> None:
        self._store, self._wait = store, wait

    @property
    def num_corrupt(self) -> int:
        return self._store.num_corrupt

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, key: bytes) -> bool:
        return key in self._store

    def put(self, key: bytes, content: PageBytes) -> None:
        self._store.put(key, content)

    def get(self, key: bytes) -> PageBytes | None:
        self._wait()
        return self._store.get(key)

    def forget(self, key: bytes) -> None:
        self._store.forget(key)


class Rig:
    """One engine. Time stands still unless ``now`` is moved; a step takes its ``cost``."""

    def __init__(
        self,
        network: FakeNetwork | None = None,
        name: str = "a",
        card: ModelCard | None = None,
        config: EngineConfig | None = None,
        cost: Cost | None = None,
        num_slots: int = 0,
        restore_s: float = 0.0,
    ) -> None:
        """With ``num_slots`` it has a second tier of so many pages, each of which takes
        ``restore_s`` to come back."""
        self.name, self.now, self.network = name, 0.0, network
        self.clock_s = 0.0
        self.runner = FakeRunner(card or fake_card(), cost=cost, advance=self._advance)
        shape = self.runner.card.shape
        wire = network.wire(name, self.runner.memory, shape) if network else None
        config = config or small(name)
        self.store = store_for(self.runner, num_slots) if num_slots else None
        slow = (
            SlowStore(self.store, lambda: self._advance(restore_s))
            if self.store is not None
            else None
        )
        self.engine = Engine(
            config, self.runner, FakeDetokenizer, wire, lambda: self.clock_s, store=slow
        )

    def order(
        self, flow: str, command: AnyCommand, attempt: int = 1, epoch: int = 0, priority: int = 0
    ) -> list[Outcome]:
        order = Order(flow, attempt, "router", command, epoch, priority)
        outcomes = self.engine.handle(order, self.now)
        self.engine.check_integrity()
        return outcomes

    def event(self, event: TransferEvent) -> list[Outcome]:
        outcomes = self.engine.handle(event, self.now)
        self.engine.check_integrity()
        return outcomes

    def hear(self) -> list[Outcome]:
        """Everything that the transport has to tell, in order."""
        assert self.network
        posted, outcomes = self.network.events[self.name], list[Outcome]()
        while posted:
            outcomes += self.event(posted.popleft())
        return outcomes

    def step(self) -> list[Outcome]:
        outcomes = self.engine.step(self.now)
        self.engine.check_integrity()
        return outcomes

    def run(self) -> list[Outcome]:
        """Steps until there is nothing to compute."""
        outcomes: list[Outcome] = []
        for _ in range(10_000):
            if not self.engine.has_work:
                return outcomes
            outcomes += self.step()
        raise AssertionError("it never ends")

    def start(
        self, flow: str, prompt: Iterable[int], max_tokens: int = 8, priority: int = 0
    ) -> list[Outcome]:
        command = self.generate(prompt, max_tokens=max_tokens)
        return self.order(flow, command, priority=priority)

    def generate(self, prompt: Iterable[int], begin: int = 0, max_tokens: int = 8) -> StartGenerate:
        sampling = Sampling(max_tokens=max_tokens)
        return StartGenerate(self.name, Tokens(prompt), begin, sampling, BOX)

    def prepare(self, flow: str, prompt: Iterable[int], end: int | None = -1) -> Prepared:
        [told] = self.order(flow, PrepRecv(self.name, Tokens(prompt), end))
        assert isinstance(told, Told)
        assert isinstance(told.event, Prepared), told.event
        return told.event

    def send(self, grant: Prepared, prompt: Iterable[int], end: int | None = -1) -> RemoteSend:
        return RemoteSend(self.name, Tokens(prompt), grant.grant, grant.matched, end)

    @property
    def statistics(self) -> EngineStatistics:
        return self.engine.statistics()

    def assert_empty(self) -> None:
        now = self.statistics
        assert now.flows == 0
        assert now.free_pages + now.cached_pages == now.total_pages
        assert not self.engine.has_work

    def _advance(self, seconds: float) -> None:
        self.clock_s += seconds


def small(name: str = "a", inter_token_s: float | None = None, **changes: int) -> EngineConfig:
    """Limits that a prompt of a few dozen tokens reaches."""
    limits = {"max_batch_tokens": 32, "max_running": 8, "prefill_chunk": 16} | changes
    return EngineConfig(name, epoch=7, inter_token_s=inter_token_s, **limits)


def pair() -> tuple[FakeNetwork, Rig, Rig]:
    """A network, a sender and a receiver on it."""
    network = FakeNetwork()
    return network, Rig(network, "a"), Rig(network, "b")


def tokens(outcomes: Iterable[Outcome], flow: str) -> list[int]:
    """The answer of a flow; offsets must follow on each other."""
    answer: list[int] = []
    messages = [o.message for o in outcomes if isinstance(o, Output) and o.flow == flow]
    for message in messages:
        if isinstance(message, Delta):
            assert message.offset == len(answer)
            answer += message.tokens
    return answer


def deltas(outcomes: Iterable[Outcome]) -> list[Delta]:
    messages = [o.message for o in outcomes if isinstance(o, Output)]
    return [message for message in messages if isinstance(message, Delta)]


def text(outcomes: Iterable[Outcome]) -> str:
    return "".join(delta.text for delta in deltas(outcomes))


def done(outcomes: Iterable[Outcome]) -> Done:
    [message] = [
        o.message for o in outcomes if isinstance(o, Output) and isinstance(o.message, Done)
    ]
    return message


def events(outcomes: Iterable[Outcome]) -> list[EngineEvent]:
    return [o.event for o in outcomes if isinstance(o, Told)]


def phases(outcomes: Iterable[Outcome]) -> list[str]:
    return [p.name for o in outcomes if isinstance(o, Told) for p in o.phases]


def reason(outcomes: Iterable[Outcome]) -> str:
    """Why the one order that these outcomes answer was refused."""
    [event] = events(outcomes)
    return getattr(event, "reason", type(event).__name__)
