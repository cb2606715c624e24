"""One model on one device: orders and transfer events go in, steps are made, outcomes come out."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from bus.messages import Order
from bus.transfers import Arrived, Delivered, Fenced, SendFailed, TransferEvent
from bus.wire import Wire

from .config import EngineConfig
from .constraint import Compiled, Compiler
from .delivering import Delivering
from .flows import Flow, Flows
from .generating import Generating
from .journal import CacheChanges
from .news import News
from .obeying import Obeying
from .outcomes import Outcome
from .pages import Pages
from .parts import Parts
from .pins import PinsFull
from .receiving import Receiving
from .runner import Detokenizer, Ids, ModelCard, Runner
from .scheduler import Scheduler
from .second_tier import SecondTier, Store
from .statistics import Counters, EngineStatistics
from .stepping import Desks, Stepping
from .survey import check_integrity, survey


class Engine:
    """Used by one thread at a time; knows no clock but the one it is given, and no network.

    Every order ends in exactly one `Told` event (`StartGenerate` in two: `Started` comes first),
    at once or later, except that a repeat of an order is silent, and that a `Release` or a higher
    attempt ends the commands before it in silence. Outcomes are in the order in which they
    happened. Neither `handle` nor `step` raises for what a user sent or a device did.
    """

    def __init__(
        self,
        config: EngineConfig,
        runner: Runner,
        detokenizer: Callable[[], Detokenizer],
        wire: Wire | None,
        clock: Callable[[], float],
        compiler: Compiler | None = None,
        store: Store | None = None,
    ) -> None:
        """``detokenizer`` makes one for each answer. Without a ``wire`` nothing is received or
        sent, without a ``compiler`` there are no grammars, without a ``store`` evicted pages are
        forgotten. ``clock`` measures, in seconds, what a step takes."""
        shape, counters = runner.card.shape, Counters()
        tier = SecondTier(runner.page_memory, store) if store is not None else None
        pages = Pages(shape.num_pages, shape.page_size, tier, config.pinnable_pages)
        scheduler = Scheduler(config, pages, counters)
        flows = Flows(config.remembered_flows)
        card = _without_pins(runner.card, config.pinnable_pages)
        self._parts = Parts(
            config, card, wire, pages, scheduler, flows, counters, compiler=compiler
        )
        self._generating = Generating(self._parts, detokenizer)
        self._receiving = Receiving(self._parts, self._generating)
        self._delivering = Delivering(self._parts)
        self._obeying = Obeying(self._parts, self._generating, self._receiving, self._delivering)
        desks = Desks(self._generating, self._delivering)
        self._stepping = Stepping(self._parts, runner, clock, desks)

    @property
    def has_work(self) -> bool:
        """A step may compute something now. After a step that could not: not before an event."""
        return self._parts.scheduler.has_work

    def holds(self, flow: str) -> bool:
        """This flow has something here, in whichever attempt."""
        return self._parts.flows.current(flow) is not None

    def is_repeat(self, order: Order) -> bool:
        """It was taken before: it was answered or will be, and is not answered again."""
        return self._obeying.is_repeat(order)

    def statistics(self) -> EngineStatistics:
        return survey(self._parts)

    def take_cache_changes(self) -> CacheChanges:
        """What came into the prefix cache and what left it since the last call."""
        return self._parts.pages.take_cache_changes()

    def cached_hashes(self) -> tuple[int, ...]:
        """The hashes of all pages in the prefix cache."""
        return self._parts.pages.cached_hashes()

    def check_integrity(self) -> None:
        """Every page is accounted for exactly once. Linear in pool and flows: for tests and idle
        moments.

        Raises:
            AssertionError: saying what is wrong.
        """
        check_integrity(self._parts)

    def pin(self, prefix: Ids) -> int:
        """Never evict the full pages of ``prefix``, from when somebody computes or receives them
        on. Returns how many tokens are kept.

        Raises:
            PinsFull: the engine's ``pinnable_pages`` are too few for it.
        """
        return self._parts.pages.pin(prefix)

    def unpin(self, prefix: Ids) -> None:
        """
        Raises:
            ValueError: it is not pinned.
        """
        self._parts.pages.unpin(prefix)
        self._parts.scheduler.wake()

    def handle(self, event: Order | News, now: float) -> list[Outcome]:
        """Obey an order, or learn how a transfer ended or a grammar was compiled. Computes nothing;
        returns quickly."""
        self._parts.scheduler.wake()
        if isinstance(event, Order):
            return self._obeying.obey(event, now)
        flow = self._parts.flows.find((event.flow, event.attempt))
        if flow is None:
            return []
        if isinstance(event, Compiled):
            return self._compiled(flow, event, now) + self._parts.settle(flow)
        return self._transferred(flow, event, now) + self._parts.settle(flow)

    def step(self, now: float) -> list[Outcome]:
        """Compute one batch. What happened in it is dated ``now`` plus what the step took."""
        return self._stepping.step(now)

    def _compiled(self, flow: Flow, event: Compiled, now: float) -> list[Outcome]:
        outcomes = self._generating.compiled(flow, event, now)
        if outcomes:  # refused: the context has no use
            self._receiving.revoke(flow)
        return outcomes

    def _transferred(self, flow: Flow, event: TransferEvent, now: float) -> list[Outcome]:
        match event:
            case Arrived():
                return self._receiving.arrived(flow, now)
            case Fenced():
                return self._receiving.fenced(flow, event, now)
            case Delivered():
                return self._delivering.delivered(flow, event, now)
            case SendFailed():
                return self._delivering.failed(flow, event)


def _without_pins(card: ModelCard, pinnable_pages: int) -> ModelCard:
    """What requests may count on: a request is never accepted that pins could starve.

    Raises:
        PinsFull: nothing would be left for them.
    """
    num_pages = card.shape.num_pages - pinnable_pages
    if num_pages < 1:
        raise PinsFull(pinnable_pages, card.shape.num_pages - 1)
    return replace(card, shape=replace(card.shape, num_pages=num_pages))
