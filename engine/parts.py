"""What the desks of one engine share, and how they speak."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from bus.messages import EngineEvent, Refused, Released
from bus.wire import Wire

from .config import EngineConfig
from .constraint import Compiler
from .context import Context
from .flows import Flow, Flows
from .outcomes import Outcome, Phase, Told
from .pages import Pages
from .rank import Rank
from .refusal import Refusal
from .runner import Ids, ModelCard
from .scheduler import Scheduler
from .statistics import Counters
from .tally import Tally


@dataclass(frozen=True)
class Parts:
    config: EngineConfig
    card: ModelCard
    wire: Wire | None
    pages: Pages
    scheduler: Scheduler
    flows: Flows
    counters: Counters
    tally: Tally = field(default_factory=Tally)
    compiler: Compiler | None = None
    _serials: count[int] = field(default_factory=count)

    def context(self, flow: Flow, tokens: Ids, capacity: int) -> Context:
        """A context that comes after all others of its priority and holds no page yet."""
        rank = Rank.of(flow.priority, next(self._serials))
        return Context(self.pages, rank, tokens, capacity, flow.adapter)

    def told(
        self, flow: Flow, verb: str, event: EngineEvent, phases: tuple[Phase, ...] = ()
    ) -> Told:
        return Told(flow.name, flow.attempt, verb, event, phases)

    def refused(
        self, flow: Flow, verb: str, refusal: Refusal, phases: tuple[Phase, ...] = ()
    ) -> Told:
        self.counters.refused += 1
        event = Refused(verb, refusal.reason, refusal.message)
        return self.told(flow, verb, event, phases)

    def settle(self, flow: Flow) -> list[Outcome]:
        """Something was done to the flow. Forget it if it has nothing here any more; then a
        release is complete, and tells of the work that it broke off."""
        self.tally.note(flow)
        if not flow.is_over:
            return []
        self.flows.end(flow)
        if not flow.releasing:
            return []
        return [self.told(flow, "Release", Released(), tuple(flow.untold))]
