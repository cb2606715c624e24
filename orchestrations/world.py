"""One point of a walk: a strategy's state and everything around it that decides what may come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from bus.fleet import Fleet
from bus.messages import (
    AnyCommand,
    Cancelled,
    Directed,
    EngineLost,
    Event,
    Refused,
    Released,
    Superseded,
    Suspended,
    TimedOut,
)
from bus.tokens import Tokens

from .answers import SO_FAR, VERBS, endings, late_answer, signs_of_life, verb
from .ledger import Ledger
from .machine import Done, Instruction, Renew, State

Kind: TypeAlias = Literal["submitted", "answer", "progress", "news", "late"]
"""Where an event comes from: the user, an engine that owes an answer (``answer`` ends what it owes,
``progress`` does not), the router itself, or an engine that owes nothing."""


class Cause(Struct, frozen=True):
    """An event, and where it comes from."""

    kind: Kind
    event: Event
    engine: str = ""
    verb: str = ""
    """The command that an engine's event answers."""


class World(Struct, frozen=True, cache_hash=True):
    state: State
    fleet: Fleet
    """The engines that are alive."""
    owed: tuple[AnyCommand, ...] = ()
    """Commands that no engine has answered yet, oldest first; one per engine and verb."""
    ledger: Ledger = Ledger()
    answered: Tokens = Tokens()
    """The answer so far, as far as anybody has heard: nothing or `SO_FAR`."""
    directions: int = 0
    """How often an operator may yet want the flow elsewhere."""
    late: frozenset[tuple[str, bool]] = frozenset()
    """Verbs that were answered, and whether by a refusal: such an answer may come again, or for the
    first time from an engine that was lost. Which engine's it is a strategy cannot tell."""

    @property
    def is_done(self) -> bool:
        return isinstance(self.state, Done)

    @property
    def alive(self) -> tuple[str, ...]:
        return tuple(e.name for e in self.fleet.engines)

    def owes(self, name: str) -> bool:
        return any(verb(c) == name for c in self.owed)

    def causes(self) -> Iterator[Cause]:
        """Everything that may happen next, in an order that is always the same."""
        for command in self.owed:
            yield from _causes("answer", command, self.answers())
        for command in self.owed:
            yield from _causes("progress", command)
        yield from (Cause("news", e) for e in (Cancelled(), TimedOut(), Superseded()))
        for answered in self.answers():
            for name in self.alive:
                yield Cause("news", EngineLost(name, self.fleet.without(name), answered))
                if self.directions:
                    yield Cause("news", Directed(name, answered))
        # The router knows which engine owes which answer and drops all others, so a strategy that
        # waits for an answer never takes a late one for it. Any other late answer it must bear.
        for name, refused in sorted(self.late):
            if not self.owes(name):
                yield Cause("late", late_answer(name, refused), verb=name)

    def at_rest(self) -> World:
        """The world to go on from: where a flow is done and nobody holds pages for it, it makes no
        difference which way it came there."""
        if not isinstance(self.state, Done) or self.ledger.holds:
            return self
        late = frozenset(product(VERBS, (False, True)))
        return World(Done(self.state.outcome), self.fleet, late=late)

    def answers(self) -> tuple[Tokens, ...]:
        """What may have been answered by now."""
        told = bool(self.ledger.generators) and self.answered != SO_FAR
        return (self.answered, SO_FAR) if told else (self.answered,)

    def after(self, cause: Cause, state: State, commands: Sequence[Instruction]) -> World:
        """The world once the event has come and these commands are on their way."""
        world = self.heard(cause)
        for command in commands:
            world = world._told(command)
        return replace(world, state=state)

    def _told(self, command: Instruction) -> World:
        if isinstance(command, Renew):
            return replace(self, owed=(), late=frozenset(), ledger=self.ledger.renewed())
        owed = (*(c for c in self.owed if not _same(c, command)), command)
        return replace(self, owed=owed, ledger=self.ledger.commanded(command))

    def heard(self, cause: Cause) -> World:
        """The world once the event has come, before the strategy reacts."""
        match cause:
            case Cause("answer"):
                return self._answered(cause)
            case Cause("news", EngineLost(engine, fleet, answered)):
                return replace(self._lost(engine, fleet), answered=answered)
            case Cause("news", Directed(_, answered)):
                return replace(self, answered=answered, directions=self.directions - 1)
            case Cause("news", Superseded()):  # another router owes and holds it all now
                return replace(self, owed=(), ledger=Ledger())
        return self

    def _answered(self, cause: Cause) -> World:
        answered = cause.event.answered if isinstance(cause.event, Suspended) else self.answered
        return replace(
            self,
            answered=answered,
            owed=_still_owed(self.owed, cause),
            ledger=self.ledger.answered(cause.engine, cause.event),
            late=self.late | {(cause.verb, isinstance(cause.event, Refused))},
        )

    def _lost(self, engine: str, fleet: Fleet) -> World:
        on_their_way = frozenset((verb(c), False) for c in self.owed if c.engine == engine)
        return replace(
            self,
            fleet=fleet,
            owed=tuple(c for c in self.owed if c.engine != engine),
            ledger=self.ledger.lost(engine),
            late=self.late | on_their_way,
        )


def _causes(
    kind: Literal["answer", "progress"], command: AnyCommand, answers: tuple[Tokens, ...] = ()
) -> Iterator[Cause]:
    events = endings(command, *answers) if kind == "answer" else signs_of_life(command)
    return (Cause(kind, event, command.engine, verb(command)) for event in events)


def _same(one: AnyCommand, other: AnyCommand) -> bool:
    return one.engine == other.engine and verb(one) == verb(other)


def _still_owed(owed: tuple[AnyCommand, ...], cause: Cause) -> tuple[AnyCommand, ...]:
    """Without the command that was answered, and without those that it made an end of: a released
    engine answers nothing that it was told before, a suspended one will not finish."""
    theirs = [c for c in owed if c.engine == cause.engine]
    answered = next(c for c in theirs if verb(c) == cause.verb)
    match cause.event:
        case Released():
            ended = theirs[: theirs.index(answered) + 1]
        case Suspended():
            ended = [c for c in theirs if c is answered or verb(c) == "StartGenerate"]
        case _:
            ended = [answered]
    return tuple(c for c in owed if c not in ended)
