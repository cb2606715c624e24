"""The router's core: events in, effects out. It knows no clock, no socket and no model.

A flow is born by `Asked`, moves by what engines report and by what goes wrong, and is forgotten
when its strategy says `Done`. Strategies are users' code: whatever one raises ends its own flow,
pages released, and nothing else.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from msgspec import Struct

from bus.codec import encode, encode_json
from bus.fleet import NoEngine
from bus.messages import (
    Answer,
    AnyCommand,
    Beat,
    Cancelled,
    EngineLost,
    Event,
    Finished,
    FinishReason,
    Mailbox,
    Order,
    Progress,
    Refused,
    Release,
    Report,
    Request,
    Started,
    Submitted,
    TimedOut,
    Usage,
)
from bus.public import Done as Ended
from bus.public import Rejected, Reply, Welcome
from bus.subjects import Subjects
from observability import names
from observability.flow import FlowTrace
from observability.spans import Attribute, SpanContext, traceparent
from orchestrations.machine import Done, Outcome, State, Strategy

from .effects import Effect, Publish, Record, Send
from .flow import Flow, verb_of
from .roster import Roster

logger = logging.getLogger("microserve.router")


class RouterConfig(Struct, frozen=True):
    router: str
    subjects: Subjects = Subjects()
    default: str = "disaggregated"
    """The orchestration of requests that name none."""
    stall_s: float = 120.0
    """A flow that nothing happens to for so long has timed out."""


# --- what the core hears ------------------------------------------------------------------------


class Asked(Struct, frozen=True):
    """A user's request, admitted. ``flow`` is a new random id of 32 hexadecimal digits."""

    flow: str
    model: str
    request: Request
    orchestration: str | None = None
    timeout_s: float | None = None
    tag: str = ""
    parent: SpanContext | None = None


class Undelivered(Struct, frozen=True):
    """An order did not reach its engine (``refusal`` None), or was turned down at the door."""

    order: Order
    refusal: Refused | None = None


class Withdrawn(Struct, frozen=True):
    """The user does not want the answer any more."""

    flow: str


class Ticked(Struct, frozen=True):
    """Time has passed."""


RouterInput: TypeAlias = Asked | Report | Progress | Beat | Undelivered | Withdrawn | Ticked


class RouterStatistics(Struct, frozen=True):
    flows: int
    """In flight now."""
    engines: int
    outcomes: dict[str, int]
    """Ended flows by outcome."""
    late: int
    """Answers that nobody waited for: duplicates, or of flows that had ended."""
    refusals: dict[str, int]
    """`Refused` answers by reason."""


# --- the core -----------------------------------------------------------------------------------

_REASONS: Mapping[Outcome, FinishReason] = {"cancelled": "cancelled"}


class RouterCore:
    def __init__(self, config: RouterConfig, strategies: Mapping[str, Strategy]) -> None:
        self.config = config
        self.strategies = strategies
        self.flows: dict[str, Flow] = {}
        self.roster = Roster()
        self._outcomes: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._late = 0

    def handle(self, event: RouterInput, now: float) -> list[Effect]:
        """Everything that has to be done because of this event, in order."""
        match event:
            case Report():
                return self._answered(event, now)
            case Asked():
                return self._asked(event, now)
            case Beat():
                return self._beat(event, now)
            case Undelivered():
                return self._undelivered(event, now)
            case Withdrawn(id):
                flow = self.flows.get(id)
                return self._play(flow, Cancelled(), now) if flow else []
            case Ticked():
                return self._ticked(now)
            case _:
                return self._streamed(event, now)

    def statistics(self) -> RouterStatistics:
        return RouterStatistics(
            len(self.flows),
            len(self.roster.seen),
            dict(self._outcomes),
            self._late,
            dict(self._refusals),
        )

    # --- events ---

    def _asked(self, asked: Asked, now: float) -> list[Effect]:
        name = asked.orchestration or self.config.default
        trace = FlowTrace(asked.flow, asked.parent, now, _request_attributes(asked, name))
        deadline = now + asked.timeout_s if asked.timeout_s else float("inf")
        flow = Flow(
            asked.flow,
            asked.model,
            name,
            self.strategies[name],
            asked.request,
            trace,
            began_s=now,
            active_s=now,
            deadline_s=deadline,
        )
        fleet = self.roster.fleet(asked.model, self._ours())
        self.flows[flow.id] = flow
        moved = self._play(flow, Submitted(asked.request, fleet), now)
        if flow.done and not flow.touched:
            rejected = Rejected(flow.fault, flow.done.message, asked.tag)
            records = [e for e in moved if isinstance(e, Record)]
            return [self._say(asked.request.reply, rejected), *records]
        welcome = Welcome(flow.id, len(asked.request.prompt), asked.tag)
        return [self._say(asked.request.reply, welcome), *moved]

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
        self._trace_answer(flow, report.engine, answer, now)
        return self._play(flow, answer, now)

    def _streamed(self, progress: Progress, now: float) -> list[Effect]:
        """Our own copy of what users read. An offset that was seen already adds nothing."""
        for more in progress:
            if flow := self.flows.get(more.flow):
                flow.heard(more, now)
        return []

    def _beat(self, beat: Beat, now: float) -> list[Effect]:
        self.roster, ended = self.roster.heard(beat, now)
        return self._engine_lost(beat.engine, now) if ended else []

    def _undelivered(self, event: Undelivered, now: float) -> list[Effect]:
        command = event.order.command
        if event.refusal is not None:
            order, refusal = event.order, event.refusal
            report = Report(order.flow, order.attempt, command.engine, order.epoch, refusal)
            return self._answered(report, now)
        self.roster = self.roster.without(command.engine)
        return self._engine_lost(command.engine, now)

    def _ticked(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for engine in self.roster.silent(now):
            logger.warning("engine %s is silent: taken for lost", engine)
            self.roster = self.roster.without(engine)
            effects += self._engine_lost(engine, now)
        for flow in list(self.flows.values()):
            if now > flow.deadline_s or now - flow.active_s > self.config.stall_s:
                effects += self._play(flow, TimedOut(), now)
        return effects

    def _engine_lost(self, engine: str, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for flow in [f for f in self.flows.values() if engine in f.touched]:
            for verb in flow.forget_engine(engine):
                flow.trace.answered(verb, engine, flow.attempt, now, error=f"{engine} was lost")
            effects.append(self._farewell(flow, engine))
            fleet = self.roster.fleet(flow.model, self._ours())
            effects += self._play(flow, EngineLost(engine, fleet), now)
        return effects

    def _farewell(self, flow: Flow, engine: str) -> Send:
        """An engine that was only slow must not keep pages for a flow that has gone on without
        it. Where it is dead, nobody hears this, and nobody waits for an answer."""
        order = Order(flow.id, flow.attempt, self.config.router, Release(engine))
        return Send(order, traceparent(flow.trace.context))

    # --- transitions ---

    def _play(self, flow: Flow, event: Event, now: float) -> list[Effect]:
        """One transition of one flow: the only place where a state changes."""
        before = flow.state
        flow.state, commands = self._step(flow, event)
        flow.active_s = now
        flow.trace.moved(_name(before), _name(event), _name(flow.state), now)
        effects: list[Effect] = [self._order(flow, command, now) for command in commands]
        if isinstance(flow.state, Done):
            effects += self._end(flow, flow.state, event, now)
        return effects

    def _step(self, flow: Flow, event: Event) -> tuple[State, Iterable[AnyCommand]]:
        try:
            return flow.strategy(flow.state, event)
        except NoEngine as error:
            flow.fault = "no_engine"
            return Done("refused", str(error)), flow.releases()
        except Exception as error:  # a user's file: its faults are its own flow's, not ours
            logger.exception("orchestration %s failed", flow.orchestration)
            message = f"orchestration {flow.orchestration} failed: {error!r}"
            return Done("refused", message), flow.releases()

    def _order(self, flow: Flow, command: AnyCommand, now: float) -> Send:
        order = flow.order(command, self.config.router, self.roster.epoch(command.engine))
        context = flow.trace.ordered(_name(command), command.engine, flow.attempt, now)
        return Send(order, traceparent(context))

    def _end(self, flow: Flow, done: Done, event: Event, now: float) -> list[Effect]:
        del self.flows[flow.id]
        self._outcomes[done.outcome] += 1
        error = None if done.outcome in ("finished", "cancelled") else done.message
        flow.trace.ended(done.outcome, now, _end_attributes(flow, event), error)
        record = Record(tuple(flow.trace.drain()))
        if done.outcome in ("finished", "superseded"):
            return [record]
        return [self._say(flow.request.reply, _last_word(flow, done)), record]

    # --- small things ---

    def _trace_answer(self, flow: Flow, engine: str, answer: Answer, now: float) -> None:
        if isinstance(answer, Started):
            return
        error = f"{answer.reason}: {answer.message}" if isinstance(answer, Refused) else None
        flow.trace.answered(verb_of(answer), engine, flow.attempt, now, error=error)

    def _ours(self) -> Counter[str]:
        return Counter(engine for flow in self.flows.values() for _, engine in flow.owed)

    def _say(self, reply: Mailbox, message: Reply) -> Publish:
        payload = encode_json(message) if reply.encoding == "json" else encode((message,))
        return Publish(reply.subject, payload)


def _last_word(flow: Flow, done: Done) -> Ended:
    """What the user hears from the router where no engine has said the last word."""
    reason = _REASONS.get(done.outcome, "error")
    usage = Usage(prompt_tokens=len(flow.request.prompt), completion_tokens=flow.num_tokens)
    return Ended(flow.id, flow.num_tokens, reason, usage, done.message)


def _name(value: object) -> str:
    return type(value).__name__


def _request_attributes(asked: Asked, orchestration: str) -> dict[str, Attribute]:
    sampling = asked.request.sampling
    return {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "microserve",
        "gen_ai.request.model": asked.model,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.usage.input_tokens": len(asked.request.prompt),
        "microserve.flow": asked.flow,
        "microserve.orchestration": orchestration,
    }


def _end_attributes(flow: Flow, event: Event) -> dict[str, Attribute]:
    attributes: dict[str, Attribute] = {"gen_ai.usage.output_tokens": flow.num_tokens}
    if isinstance(event, Finished):
        attributes["gen_ai.usage.output_tokens"] = event.usage.completion_tokens
        attributes["gen_ai.response.finish_reasons"] = (event.reason,)
        attributes["microserve.cached_tokens"] = event.usage.cached_tokens
    if flow.first_token_s is not None:
        attributes[names.TTFT_S] = flow.first_token_s - flow.began_s
    return attributes
