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

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from msgspec import Struct

from bus.fleet import Fleet
from bus.messages import (
    Answer,
    Beat,
    CacheChanged,
    Cancelled,
    Directed,
    EngineLost,
    Order,
    Progress,
    Refused,
    Release,
    Report,
    Request,
    Started,
    TimedOut,
)
from bus.prefixes import unpack
from bus.public import Rejected
from bus.subjects import Subjects
from observability.flow import FlowTrace
from observability.spans import traceparent
from orchestrations.machine import Done, Strategy

from .admission import AdmissionConfig, AdmissionStatistics, Waiter
from .cache_index import CacheIndex
from .catalog import Catalog, Serving
from .claims import num_tokens
from .effects import Effect, Publish, Send, Withdraw
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
from .last_words import request_attributes, say
from .playing import Player, Table
from .prefix_index import BothIndexes, SentIndex
from .roster import Roster
from .standing import Standing

__all__ = [
    "Activated",
    "Asked",
    "Loaded",
    "Policy",
    "RouterConfig",
    "RouterCore",
    "RouterInput",
    "RouterStatistics",
    "Ticked",
    "Undelivered",
    "Wished",
    "Withdrawn",
]

logger = logging.getLogger("microserve.router")

Policy: TypeAlias = Callable[[Request, Fleet], str]
"""Which strategy serves a request that names none, by its name."""


class RouterConfig(Struct, frozen=True):
    router: str
    subjects: Subjects = Subjects()
    default: str = "disaggregated"
    """The orchestration of requests that name none."""
    stall_s: float = 120.0
    """A flow that nothing happens to for so long has timed out."""
    max_waiting: int = 1024
    """Flows of one model that wait for room."""


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
        policy: Policy | None = None,
    ) -> None:
        """``policy`` chooses for requests that name no orchestration; else it is the default."""
        self.config, self._policy = config, policy
        self.flows: dict[str, Flow] = {}
        self.catalog = Catalog(strategies, config.default)
        self.standing = Standing()
        self.history = History()
        self._told, sent, self._outcomes = CacheIndex(), SentIndex(), Counter[str]()
        self._prefixes = BothIndexes(self._told, sent)
        self._table = Table(
            config.router,
            self.catalog,
            sent,
            self.standing,
            self.flows,
            Roster(),
            self._outcomes,
            [],
            self.history,
        )
        self._player = Player(self._table)
        admission = AdmissionConfig(config.max_waiting)
        self._gate = Gate(admission, self._table, self._player, self._prefixes)
        self._refusals: Counter[str] = Counter()
        self._late = 0

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
            dict(self._outcomes),
            self._late,
            dict(self._refusals),
            dict(self._gate.waiting()),
            self._table.history.moves(),
        )

    def admission(self, now: float) -> dict[str, AdmissionStatistics]:
        """How it stands with those who wait, by model."""
        return self._gate.statistics(now)

    def engines_of(self, flow: Flow) -> list[str]:
        """Those that are alive and can have it, by name."""
        fleet = self.standing.fleet(flow.model, {})
        return [e.name for e in self.standing.having(flow.request.adapter, fleet).engines]

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
                return self._asked(event, now)
            case Beat():
                return self._beat(event, now)
            case CacheChanged():
                return self._cache_changed(event, now)
            case Undelivered():
                return self._undelivered(event, now)
            case Withdrawn(id):
                flow = self.flows.get(id)
                return self._cancelled(flow, now) if flow else []
            case Wished():
                return self._wished(event, now)
            case Ticked():
                return self._ticked(now)
            case Loaded(ref, strategy):
                self.catalog.load(ref, strategy)
                return []
            case Unloadable(ref, reason):
                return [Withdraw(ref, reason)] if self.catalog.withdraw(ref) else []
            case Activated(slot, activation):
                self.catalog.activate(slot, activation)
                return []
            case _:
                return self._streamed(event, now)

    def _asked(self, asked: Asked, now: float) -> list[Effect]:
        serving = self.catalog.serving(asked.orchestration, asked.flow)
        if serving is None:
            known = ", ".join(self.catalog.names())
            message = f"no orchestration {asked.orchestration!r}; known are {known}"
            rejected = Rejected("unknown_orchestration", message, asked.tag)
            return [say(asked.request.reply, rejected)]
        if missing := self._missing_adapter(asked):
            return [say(asked.request.reply, Rejected("bad_request", missing, asked.tag))]
        flow = Flow(
            asked.flow,
            asked.model,
            asked.orchestration,
            serving,
            asked.request,
            self._waiter(asked, now),
            FlowTrace(asked.flow, asked.parent, now, request_attributes(asked, serving.ref)),
            began_s=now,
            active_s=now,
            deadline_s=now + asked.timeout_s if asked.timeout_s else float("inf"),
        )
        if asked.orchestration is None:
            flow.serving = self._chosen(flow) or serving
        self.flows[flow.id] = flow
        return self._gate.arrive(flow, asked.tag, now)

    def _missing_adapter(self, asked: Asked) -> str:
        """Why nobody can serve it, in words. Where there is no engine at all, its strategy says
        so."""
        adapter, known = asked.request.adapter, self.standing.adapters(asked.model)
        if not adapter or adapter in known or not self.standing.page_sizes(asked.model):
            return ""
        return f"no engine has the adapter {adapter!r}; there are: {', '.join(known) or 'none'}"

    def _chosen(self, flow: Flow) -> Serving | None:
        """What the policy wants for this flow; None where it does not decide, or is at fault."""
        if self._policy is None or self.catalog.is_active(None):
            return None
        try:
            name = self._policy(flow.request, self._gate.fleet(flow))
        except Exception:  # a user's file: the default does
            logger.exception("the policy failed")
            return None
        chosen = self.catalog.serving(name, flow.id)
        if chosen is None:
            logger.error("the policy chose %r, which is no orchestration", name)
        return chosen

    def _waiter(self, asked: Asked, now: float) -> Waiter:
        per_s = self.standing.fastest_prefill_per_s(asked.model)
        return Waiter(
            asked.flow,
            asked.user,
            asked.request.priority,
            now + asked.timeout_s if asked.timeout_s else float("inf"),
            num_tokens(asked.request),
            len(asked.request.prompt) / per_s if per_s else 0.0,
        )

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
            return self._engine_lost(report.engine, now)  # known again by its next beat
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
        effects: list[Effect] = []
        for engine in self.roster.silent(now):
            logger.warning("engine %s is silent: taken for lost", engine)
            effects += self._engine_lost(engine, now)
        effects += self._gate.overdue(now)
        for flow in [f for f in self.flows.values() if not f.is_waiting]:
            if now > flow.deadline_s or now - flow.active_s > self.config.stall_s:
                effects += self._player.play(flow, TimedOut(), now)
        return effects

    # --- engines ---

    def _beat(self, beat: Beat, now: float) -> list[Effect]:
        known = self.roster.epoch(beat.engine)
        if beat.epoch < known:
            return []
        effects: list[Effect] = []
        if known and (beat.leaving or beat.epoch > known):
            effects = self._engine_lost(beat.engine, now)
        if beat.leaving:
            return effects
        self._table.roster, _ = self.roster.heard(beat, now)
        self.standing.heard(beat, now)
        return effects + self._ask_for_snapshot(beat.engine, self._told.heard(beat, now))

    def _cache_changed(self, change: CacheChanged, now: float) -> list[Effect]:
        try:
            wanted = self._told.changed(change, now)
        except ValueError as error:
            logger.warning("%s tells of a cache that cannot be: %s", change.engine, error)
            return []
        self._table.sent.evicted(change.engine, unpack(change.evicted))
        return self._ask_for_snapshot(change.engine, wanted)

    def _ask_for_snapshot(self, engine: str, wanted: bool) -> list[Effect]:
        return [Publish(self.config.subjects.cache_snapshot(engine), b"")] if wanted else []

    def _undelivered(self, event: Undelivered, now: float) -> list[Effect]:
        command = event.order.command
        if event.refusal is not None:
            order, refusal = event.order, event.refusal
            report = Report(order.flow, order.attempt, command.engine, order.epoch, refusal)
            return self._answered(report, now)
        return self._engine_lost(command.engine, now)

    def _engine_lost(self, engine: str, now: float) -> list[Effect]:
        self._table.roster = self.roster.without(engine)
        self.standing.lost(engine)
        self._prefixes.forget(engine)
        effects: list[Effect] = []
        concerned = [f for f in self.flows.values() if engine in f.touched or engine in f.claims]
        for flow in concerned:
            if engine in flow.touched:
                effects.append(self._farewell(flow, engine))
            for verb in flow.forget_engine(engine):
                flow.trace.answered(verb, engine, flow.attempt, now, error=f"{engine} was lost")
            lost = EngineLost(engine, self._gate.fleet(flow), flow.answered)
            effects += self._player.play(flow, lost, now)
        return effects

    def _farewell(self, flow: Flow, engine: str) -> Send:
        """An engine that was only slow must not keep pages for a flow that has gone on without
        it. Where it is dead, nobody hears this, and nobody waits for an answer."""
        order = Order(flow.id, flow.attempt, self.config.router, Release(engine))
        return Send(order, traceparent(flow.trace.context))

    def _trace_answer(self, flow: Flow, engine: str, answer: Answer, now: float) -> None:
        if isinstance(answer, Started):
            return
        error = f"{answer.reason}: {answer.message}" if isinstance(answer, Refused) else None
        flow.trace.answered(verb_of(answer), engine, flow.attempt, now, error=error)
