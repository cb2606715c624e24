"""The router's core: events in, effects out. It knows no clock, no socket and no model.

A flow is born by `Asked`, waits until there is room, moves by what engines report and by what goes
wrong, and is forgotten when its strategy says `Done`.

```
Asked --> gate (admission, fleet) --> player (strategy) --> effects
              ^                          ^
           room again         reports, losses, cancels, time
```
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from bus.codec import encode
from bus.messages import (
    Answer,
    Beat,
    CacheChanged,
    Cancelled,
    Directed,
    Progress,
    Refused,
    Report,
    Started,
    TimedOut,
)
from bus.moves import Watching
from bus.subjects import Subjects
from observability.sampling import Sampling
from orchestrations.machine import Done, Strategy
from orchestrations.policies import Policy

from .admission import AdmissionConfig
from .arrivals import Arrivals
from .attendance import Attendance
from .catalog import Catalog, Installed
from .effects import Effect, Publish, Withdraw
from .flow import Flow, verb_of
from .gate import Gate
from .history import History, Moves
from .inputs import (
    Activated,
    Asked,
    Loaded,
    RouterInput,
    Ticked,
    Undelivered,
    Unloadable,
    Wished,
    Withdrawn,
)
from .lookout import Looked, Unseen
from .playing import Player
from .roster import Roster
from .standing import Standing
from .table import Table

__all__ = [
    "Activated",
    "Asked",
    "Loaded",
    "RouterConfig",
    "RouterCore",
    "RouterInput",
    "RouterStatistics",
    "Ticked",
    "Undelivered",
    "Wished",
    "Withdrawn",
]


class RouterConfig(Struct, frozen=True):
    router: str
    subjects: Subjects = Subjects()
    default: str = "disaggregated"
    """The orchestration of requests that name none: a strategy's name, or a policy's."""
    stall_s: float = 120.0
    """A flow that nothing happens to for so long has timed out."""
    max_waiting: int = 1024
    """Flows of one model that wait for room."""
    sampling: Sampling = Sampling()
    """Which flows are traced."""


class RouterStatistics(Struct, frozen=True):
    flows: int
    """In flight now, those that wait for room included."""
    engines: int
    outcomes: dict[str, int]
    """Ended flows by outcome."""
    late: int
    """Answers that nobody waited for: duplicates, or of flows that had ended."""
    refusals: dict[str, int]
    """`Refused` answers by reason."""
    waiting: dict[str, int]
    """Flows that wait for room, by model."""
    moves: tuple[Moves, ...]
    """Transitions of strategies, each kind with its count."""


class RouterCore:
    def __init__(
        self,
        config: RouterConfig,
        strategies: Mapping[str, Strategy],
        policies: Mapping[str, Policy] = MappingProxyType({}),
    ) -> None:
        self.config = config
        installed = Installed(strategies, policies, config.default)
        self._table = table = Table.empty(config.router, Catalog(installed))
        self._player = Player(table)
        self._gate = Gate(AdmissionConfig(config.max_waiting), table, self._player)
        self._arrivals = Arrivals(table, self._gate, config.sampling)
        self._attendance = Attendance(table, self._player, config.subjects)
        self._refusals: Counter[str] = Counter()
        self._late = 0

    @property
    def flows(self) -> dict[str, Flow]:
        """Those that have not ended, by id."""
        return self._table.flows

    @property
    def catalog(self) -> Catalog:
        return self._table.catalog

    @property
    def standing(self) -> Standing:
        return self._table.standing

    @property
    def roster(self) -> Roster:
        """The engines that are alive."""
        return self._table.roster

    def handle(self, event: RouterInput, now: float) -> list[Effect]:
        """Everything that has to be done because of this event, in order."""
        return self._happened(event, now) + self._gate.pump(now)

    def statistics(self) -> RouterStatistics:
        return RouterStatistics(
            len(self.flows),
            len(self.roster.seen),
            dict(self._table.outcomes),
            self._late,
            dict(self._refusals),
            dict(self._gate.waiting()),
            self.history.moves(),
        )

    def expected_waits_s(self, now: float) -> dict[str, float]:
        """How long a newcomer would wait for room, as far as is known, by model."""
        return self._gate.expected_waits_s(now)

    @property
    def history(self) -> History:
        """What happened to flows so far, to be measured."""
        return self._table.history

    def engines_of(self, flow: Flow) -> list[str]:
        """Those that are alive and can have it, by name."""
        return self.standing.names_having(flow.model, flow.request.adapter)

    def look(self, flow: str, now: float) -> Looked | Unseen:
        """What is known of one flow, for somebody who wants to see it."""
        return self._table.lookout.look(flow, now)

    def check_integrity(self) -> None:
        """
        Raises:
            AssertionError: what engines are counted to have of ours is not what flows have.
        """
        self.standing.check({flow.id: flow.claims for flow in self.flows.values()})

    # --- events ---

    def _happened(self, event: RouterInput, now: float) -> list[Effect]:
        match event:
            case Report():
                return self._answered(event, now)
            case Asked():
                return self._arrivals.asked(event, now)
            case Beat():
                return self._attendance.heard(event, now)
            case CacheChanged():
                return self._attendance.cache_changed(event, now)
            case Undelivered():
                return self._undelivered(event, now)
            case Withdrawn(id):
                flow = self.flows.get(id)
                return self._cancelled(flow, now) if flow else []
            case Wished():
                return self._wished(event, now)
            case Ticked():
                return self._ticked(now)
            case Loaded(found):
                self.catalog.load(found)
                return []
            case Unloadable(ref, reason):
                return [Withdraw(ref, reason)] if self.catalog.withdraw(ref) else []
            case Activated(slot, activation):
                self.catalog.activate(slot, activation)
                return []
            case Watching():
                self._table.lookout.watched(event, now)
                return []
            case _:
                return self._streamed(event, now)

    def _answered(self, report: Report, now: float) -> list[Effect]:
        flow = self.flows.get(report.flow)
        answer = report.event
        if flow is None or report.attempt != flow.attempt:
            self._late += 1
            return []
        if not flow.settle(report.engine, answer):
            self._late += 1
            return []
        if isinstance(answer, Refused):
            self._refusals[answer.reason] += 1
            if answer.reason == "busy":
                self.standing.is_full(report.engine)
        self._trace_answer(flow, report.engine, answer, now)
        if isinstance(answer, Refused) and answer.reason == "stale_epoch":
            return self._attendance.lost(report.engine, now)  # known again by its next beat
        return self._player.play(flow, answer, now)

    def _streamed(self, progress: Progress, now: float) -> list[Effect]:
        """Our own copy of what users read. An offset that was seen already adds nothing."""
        for more in progress:
            if flow := self.flows.get(more.flow):
                flow.heard(more, now)
        return []

    def _cancelled(self, flow: Flow, now: float) -> list[Effect]:
        if flow.is_waiting:
            return self._gate.leave(flow, Done("cancelled"), now)
        return self._player.play(flow, Cancelled(), now)

    def _wished(self, wished: Wished, now: float) -> list[Effect]:
        """A flow that is not at work here is not told, nor of an engine that it cannot go to."""
        flow = self.flows.get(wished.flow)
        if flow is None or flow.is_waiting or wished.engine not in self.engines_of(flow):
            return []
        return self._player.play(flow, Directed(wished.engine, flow.answered), now)

    def _ticked(self, now: float) -> list[Effect]:
        effects = self._attendance.ticked(now)
        effects += self._gate.overdue(now)
        for flow in [f for f in self.flows.values() if not f.is_waiting]:
            if now > flow.deadline_s or now - flow.active_s > self.config.stall_s:
                effects += self._player.play(flow, TimedOut(), now)
        return effects + self._tell(now)

    def _tell(self, now: float) -> list[Effect]:
        """Those who look; nothing where nobody does."""
        moves = self._table.lookout.tick(now)
        subject = self.config.subjects.moves(self.config.router)
        return [Publish(subject, encode(moves))] if moves else []

    def _undelivered(self, event: Undelivered, now: float) -> list[Effect]:
        order, engine = event.order, event.order.command.engine
        if event.refusal is not None:
            report = Report(order.flow, order.attempt, engine, order.epoch, event.refusal)
            return self._answered(report, now)
        if order.epoch != self.roster.epoch(engine):
            return []  # it was lost, and who had something there knows; it may be back by now
        return self._attendance.lost(engine, now)

    def _trace_answer(self, flow: Flow, engine: str, answer: Answer, now: float) -> None:
        if isinstance(answer, Started):
            return
        error = f"{answer.reason}: {answer.message}" if isinstance(answer, Refused) else None
        flow.trace.answered(verb_of(answer), engine, flow.attempt, now, error=error)
