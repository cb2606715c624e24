"""One point of a walk: a strategy's state and everything around it that decides what may come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from bus.fleet import Fleet
from bus.messages import (
    AnyCommand,
    Cancelled,
    EngineLost,
    Event,
    Released,
    Superseded,
    Suspended,
    TimedOut,
)

from .answers import endings, signs_of_life, successes, verb
from .ledger import Ledger
from .machine import Done, State

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


class World(Struct, frozen=True):
    state: State
    fleet: Fleet
    """The engines that are alive."""
    owed: tuple[AnyCommand, ...] = ()
    """Commands that no engine has answered yet, oldest first; one per engine and verb."""
    ledger: Ledger = Ledger()
    late: tuple[Cause, ...] = ()
    """Answers that may come though nobody owes them: the last one of each engine and verb may come
    again, and one of an engine that was lost may have been on its way. In a fixed order."""

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
            yield from _causes("answer", command)
        for command in self.owed:
            yield from _causes("progress", command)
        yield from (Cause("news", e) for e in (Cancelled(), TimedOut(), Superseded()))
        for name in self.alive:
            yield Cause("news", EngineLost(name, self.fleet.without(name)))
        # The router knows which engine owes which answer and drops all others, so a strategy that
        # waits for an answer never takes a late one for it. Any other late answer it must bear.
        yield from (c for c in self.late if not self.owes(c.verb))

    def after(self, cause: Cause, state: State, commands: Sequence[AnyCommand]) -> World:
        """The world once the event has come and these commands are on their way."""
        world = self.heard(cause)
        owed, ledger = world.owed, world.ledger
        for command in commands:
            owed = (*(c for c in owed if not _same(c, command)), command)
            ledger = ledger.commanded(command)
        return replace(world, state=state, owed=owed, ledger=ledger)

    def heard(self, cause: Cause) -> World:
        """The world once the event has come, before the strategy reacts."""
        match cause:
            case Cause("answer"):
                return self._answered(cause)
            case Cause("news", EngineLost(engine, fleet)):
                return self._lost(engine, fleet)
            case Cause("news", Superseded()):  # another router owes and holds it all now
                return replace(self, owed=(), ledger=Ledger())
        return self

    def _answered(self, cause: Cause) -> World:
        late = Cause("late", cause.event, cause.engine, cause.verb)
        return replace(
            self,
            owed=_still_owed(self.owed, cause),
            ledger=self.ledger.answered(cause.engine, cause.event),
            late=_with_late(self.late, late),
        )

    def _lost(self, engine: str, fleet: Fleet) -> World:
        on_their_way = (
            Cause("late", next(successes(c)), engine, verb(c))
            for c in self.owed
            if c.engine == engine
        )
        return replace(
            self,
            fleet=fleet,
            owed=tuple(c for c in self.owed if c.engine != engine),
            ledger=self.ledger.lost(engine),
            late=_with_late(self.late, *on_their_way),
        )


def _with_late(late: tuple[Cause, ...], *more: Cause) -> tuple[Cause, ...]:
    newest = {(c.engine, c.verb): c for c in (*late, *more)}
    return tuple(newest[key] for key in sorted(newest))


def _causes(kind: Literal["answer", "progress"], command: AnyCommand) -> Iterator[Cause]:
    events = endings(command) if kind == "answer" else signs_of_life(command)
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
