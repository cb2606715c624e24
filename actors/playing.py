"""Plays transitions: asks a flow's strategy what to do, and turns it into effects.

Strategies are users' code. One that raises, answers nonsense or leaves a flow with nobody to wait
for is at fault; a loaded version at fault is withdrawn, and its flows begin again with the one that
served before it, so that nobody's request fails for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

from msgspec import Struct

from bus.fleet import NoEngine
from bus.messages import (
    AnyCommand,
    Cancelled,
    Command,
    Event,
    Finished,
    Refused,
    RemoteSend,
    StartGenerate,
    Superseded,
    TimedOut,
)
from bus.subjects import TOKEN
from observability.spans import traceparent
from orchestrations.machine import Done, Idle, Instruction, Renew, State

from .choosing import choose
from .claims import claims
from .deciding import reasons
from .effects import Effect, Keep, Record, Send, Withdraw
from .flow import Flow
from .last_words import WELL, end_attributes, last_word, log_end, say
from .table import Table
from .versions import INSTALLED

logger = logging.getLogger("microserve.router")

MAX_RETURNS = 16
"""How often a flow goes back to waiting when engines say that they have no room after all."""


class AtFault(Exception):
    """A strategy's answer cannot be carried out."""


class Step(Struct, frozen=True):
    """What a strategy wants."""

    state: State
    commands: tuple[Instruction, ...] = ()
    fault: str = ""
    """What is wrong with the strategy, where something is."""
    no_engine: bool = False


class Player:
    def __init__(self, table: Table) -> None:
        self._table = table

    def ask(self, flow: Flow, event: Event) -> Step:
        """What its strategy does with this event. Changes nothing."""
        try:
            state, commands = flow.serving.strategy(flow.state, event)
            _check(state, commands)
            return Step(state, tuple(commands))
        except NoEngine as error:
            return Step(Done("refused", str(error)), tuple(flow.releases()), no_engine=True)
        except (Exception, SystemExit) as error:  # a user's file: its faults are its own flow's
            logger.exception("orchestration %s failed", flow.serving.ref, extra=flow.about)
            why = str(error) if isinstance(error, AtFault) else repr(error)
            return self._failed(flow, f"{type(event).__name__} while {_name(flow.state)}: {why}")

    def play(self, flow: Flow, event: Event, now: float) -> list[Effect]:
        """One transition of one flow."""
        return self.take(flow, event, self.ask(flow, event), now)

    def take(self, flow: Flow, event: Event, step: Step, now: float) -> list[Effect]:
        """Carry out what its strategy wants: the only place where a state changes."""
        if step.fault and flow.serving.ref.number != INSTALLED:
            return self._replace(flow, event, step, now)
        if _has_no_room(flow, event, step):
            return self._return(flow, event, step, now)
        flow.fault = "no_engine" if step.no_engine else "internal"
        before, flow.state, flow.active_s = flow.state, step.state, now
        flow.stepped(event, step.commands, now)
        why = partial(reasons, event, step.commands) if flow.trace.records else None
        flow.trace.moved(_name(before), _name(event), _name(flow.state), now, why)
        self._table.history.moved(
            flow.serving.ref.name, (_name(before), _name(event), _name(flow.state))
        )
        self._table.lookout.moved(flow, _name(before), _name(event), _name(flow.state))
        effects = self._orders(flow, step.commands, now)
        self._claim(flow)
        if isinstance(flow.state, Done):
            return effects + self.end(flow, event, now)
        if not flow.owed:
            fault = f"{_name(event)} led to {_name(flow.state)}, and no engine owes an answer"
            return effects + self.take(flow, event, self._failed(flow, fault), now)
        return effects

    def end(self, flow: Flow, event: Event | None, now: float) -> list[Effect]:
        """It is over: nothing is left of it here but what is told and kept."""
        done = flow.done
        assert done is not None
        del self._table.flows[flow.id]
        self._table.outcomes[done.outcome] += 1
        self._table.history.ended(flow, done.outcome, now)
        error = None if done.outcome in WELL else done.message
        log_end(flow, done.outcome, error, now)
        told = partial(end_attributes, flow, event) if flow.trace.records else None
        flow.trace.ended(done.outcome, now, told, error)
        spans = tuple(flow.trace.drain())
        self._table.lookout.ended(flow, spans, now)
        effects: list[Effect] = [Record(spans)] if spans else []
        if flow.steps:
            effects.append(Keep(flow.recording()))
        if done.outcome in ("finished", "superseded"):
            return effects
        return [say(flow.request.reply, last_word(flow, done)), *effects]

    # --- what goes out ---

    def _orders(self, flow: Flow, instructions: Iterable[Instruction], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for instruction in instructions:
            if isinstance(instruction, Renew):
                flow.trace.renewed(now)
                flow.renew()
            else:
                effects.append(self._order(flow, instruction, now))
        return effects

    def _order(self, flow: Flow, command: AnyCommand, now: float) -> Send:
        table, engine = self._table, command.engine
        order = flow.order(command, table.router, table.roster.epoch(engine))
        self._note(flow, command)
        context = flow.trace.ordered(_name(command), engine, flow.attempt, now)
        return Send(order, traceparent(context))

    def _note(self, flow: Flow, command: AnyCommand) -> None:
        """This engine is going to compute the prompt, or a part of it."""
        if not isinstance(command, RemoteSend | StartGenerate):
            return
        size, engine = len(command.prompt), command.engine
        begin = command.begin if isinstance(command, StartGenerate) else 0
        end = size if isinstance(command, StartGenerate) else _end(command, size)
        begin = max(begin, flow.cached.get(engine, 0))
        for page_size in self._table.standing.page_sizes(flow.model):
            self._table.sent.sent(engine, flow.chain(page_size)[: end // page_size])
        flow.pending[_name(command), engine] = max(0, end - begin)

    def _claim(self, flow: Flow) -> None:
        standing = self._table.standing
        flow.claims = claims(flow.request, flow.state, flow.touched, (), standing)
        standing.claim(flow.id, flow.claims)
        standing.work(flow.id, flow.works() if flow.claims else {})

    # --- what goes wrong ---

    def _failed(self, flow: Flow, fault: str) -> Step:
        message = f"orchestration {flow.serving.ref} failed: {fault}"
        return Step(Done("refused", message), tuple(flow.releases()), fault)

    def _replace(self, flow: Flow, event: Event, step: Step, now: float) -> list[Effect]:
        """Withdraw the version; the flow begins again with another, to the same answer: tokens are
        a function of the request, and what comes twice is dropped by its offset."""
        ref = flow.serving.ref
        is_first = self._table.catalog.withdraw(ref)
        effects: list[Effect] = [Withdraw(ref, step.fault)] if is_first else []
        choice = choose(self._table, flow)
        effects += choice.effects
        if choice.serving is None or isinstance(event, _ENDINGS):
            over = Step(_ended_by(event, step), step.commands)
            return effects + self.take(flow, event, over, now)
        effects += self._begin_again(flow, step.commands, now, f"{ref} was withdrawn")
        flow.serving = choice.serving
        return effects

    def _return(self, flow: Flow, event: Event, step: Step, now: float) -> list[Effect]:
        """The engine has no room after all: what was taken elsewhere is given back."""
        flow.num_returns += 1
        return self._begin_again(flow, step.commands, now, "an engine had no room")

    def _begin_again(
        self, flow: Flow, releases: Iterable[Instruction], now: float, why: str
    ) -> list[Effect]:
        effects = self._orders(flow, releases, now)
        for verb, engine in flow.owed:
            flow.trace.answered(verb, engine, flow.attempt, now, error=why)
        flow.trace.moved(_name(flow.state), why, "Waiting", now)
        self._table.lookout.moved(flow, _name(flow.state), "Refused", "Waiting")
        flow.renew()
        flow.state, flow.is_waiting, flow.active_s = Idle(), True, now
        flow.steps.clear()
        self._claim(flow)
        self._table.returned.append(flow)
        return effects


_ENDINGS = (Cancelled, TimedOut, Superseded, Finished)
"""After these there is nothing to begin again for."""


def _check(state: object, commands: Iterable[object]) -> None:
    """Raises: AtFault: this is no answer that can be carried out."""
    if not isinstance(state, Struct):
        raise AtFault(f"a state is a Struct, this is {type(state).__name__}")
    for command in commands:
        if isinstance(command, Renew):
            continue
        if not isinstance(command, Command):
            raise AtFault(f"{type(command).__name__} is no command")
        if not TOKEN.fullmatch(command.engine):
            raise AtFault(f"no engine can be called {command.engine[:80]!r}")


def _ended_by(event: Event, step: Step) -> Done:
    match event:
        case Finished():
            return Done("finished")
        case Cancelled():
            return Done("cancelled")
        case Superseded():
            return Done("superseded")
        case TimedOut():
            return Done("timed_out", "nothing happened for too long")
    assert isinstance(step.state, Done)
    return step.state


def _has_no_room(flow: Flow, event: Event, step: Step) -> bool:
    """The strategy gives up for want of room, and the user has not seen anything yet."""
    return (
        isinstance(event, Refused)
        and event.reason == "busy"
        and isinstance(step.state, Done)
        and step.state.outcome == "refused"
        and not flow.num_tokens
        and flow.num_returns < MAX_RETURNS
    )


def _end(command: RemoteSend, size: int) -> int:
    if command.end is None:
        return size
    return command.end if command.end >= 0 else size + command.end


def _name(value: object) -> str:
    return type(value).__name__
