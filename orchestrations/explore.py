"""Walk every path that a strategy can take, answering its commands in every possible way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from bus.fleet import NoEngine
from bus.messages import Command, Submitted

from .machine import Idle, Instruction, Renew, State, Step, Strategy
from .shapes import Shape
from .world import Cause, World

MAX_WORLDS: Final = 50_000


class Moved(Struct, frozen=True):
    """An event that the strategy took, what it commanded, and the world after it."""

    before: World
    cause: Cause
    commands: tuple[Instruction, ...]
    after: World


class Failed(Struct, frozen=True):
    """An event that the strategy did not take as a strategy must; the path ends there."""

    before: World
    cause: Cause
    why: Literal["unhandled", "malformed", "impure", "stalls", "greedy", "reaches_out"]
    message: str


Edge: TypeAlias = Moved | Failed


class TooSlow(BaseException):
    """The strategy was stopped, since it thought for too long. No `Exception`, which it might
    catch."""


class ReachesOut(BaseException):
    """The strategy was stopped when it reached for a file, a socket or a process."""


class _NotAStep(Exception):
    """What the strategy returned is not a state and a sequence of commands."""


class Walk:
    """All worlds that can be reached from one submitted request, breadth first.

    Iterating yields every edge once, in an order that depends on nothing but the arguments. A fleet
    that the strategy declines with `NoEngine` has no edges: the flow never began.
    """

    def __init__(self, strategy: Strategy, shape: Shape, max_worlds: int = MAX_WORLDS) -> None:
        self._strategy = strategy
        self._submitted = Cause("submitted", Submitted(shape.request, shape.fleet))
        self._max_worlds = max_worlds
        self.start = World(Idle(), shape.fleet, directions=shape.directions)
        self.reached: dict[World, Moved | None] = {self.start: None}
        """Every world found so far, and the edge that led there first, hence on a shortest path."""
        self.exhaustive = True
        """False once a world was left out: there were ``max_worlds`` already, or it stalls."""

    def __iter__(self) -> Iterator[Edge]:
        queue = deque([self.start])
        while queue:
            for edge in self._edges(queue.popleft()):
                yield edge
                if isinstance(edge, Failed) and edge.why == "stalls":  # it would at every turn
                    self.exhaustive = False
                    return
                if isinstance(edge, Moved) and self._is_new(edge):
                    queue.append(edge.after.at_rest())

    @property
    def is_full(self) -> bool:
        """Given up because there were too many worlds."""
        return not self.exhaustive and len(self.reached) >= self._max_worlds

    def path(self, world: World) -> tuple[Moved, ...]:
        """A shortest path from the start to a world that was reached."""
        steps: list[Moved] = []
        edge = self.reached[world]
        while edge is not None:
            steps.append(edge)
            edge = self.reached[edge.before]
        return tuple(reversed(steps))

    def _edges(self, world: World) -> Iterator[Edge]:
        causes = (self._submitted,) if world == self.start else world.causes()
        for cause in causes:
            try:
                yield _edge(self._strategy, world, cause)
            except NoEngine:  # let through for a `Submitted` only
                return

    def _is_new(self, edge: Moved) -> bool:
        world = edge.after.at_rest()
        if world in self.reached or _stays_done(edge):
            return False
        if len(self.reached) >= self._max_worlds:
            self.exhaustive = False
            return False
        self.reached[world] = edge
        return True


def explore(strategy: Strategy, shape: Shape, max_worlds: int = MAX_WORLDS) -> Walk:
    """The walk over every reachable (state, commands without an answer, pages held, live fleet).

    Every outstanding command is answered in every way an engine may, and at any moment the user may
    cancel, the time may run out, any engine may die, another router may take over, and an answer
    may come late or twice. The strategy is called twice for each, to see that it is pure.
    """
    return Walk(strategy, shape, max_worlds)


def _stays_done(edge: Moved) -> bool:
    """Whatever may come after such an edge could have come before it, and has been tried there."""
    return edge.before.is_done and edge.before.state == edge.after.state and not edge.commands


def _edge(strategy: Strategy, world: World, cause: Cause) -> Edge:
    """What the strategy makes of the event.

    Raises:
        NoEngine: it declines a `Submitted`; the router makes a refusal of that.
    """
    try:
        state, commands = _checked(strategy(world.state, cause.event))
        again, repeated = _checked(strategy(world.state, cause.event))
        if (state, commands) != (again, repeated):
            return Failed(world, cause, "impure", "the same again gave another step")
    except _NotAStep as error:
        return Failed(world, cause, "malformed", str(error))
    except TooSlow as error:
        return Failed(world, cause, "stalls", str(error))
    except ReachesOut as error:
        return Failed(world, cause, "reaches_out", str(error))
    except MemoryError:
        return Failed(world, cause, "greedy", "the memory that it may use was not enough")
    except Exception as error:  # a strategy is anybody's code: whatever it raises is the finding
        if isinstance(error, NoEngine) and cause.kind == "submitted":
            raise
        return Failed(world, cause, "unhandled", f"{type(error).__name__}: {error}")
    return Moved(world, cause, commands, world.after(cause, state, commands))


def _checked(step: Step) -> tuple[State, tuple[Instruction, ...]]:
    """The step, if it is one.

    Raises:
        _NotAStep: with what it is instead.
    """
    if not _is_step(step):
        raise _NotAStep(f"a state and a list of commands is wanted, not {step!r:.200}")
    state, commands = step
    try:
        hash(state)
    except TypeError as error:
        raise _NotAStep(f"{type(state).__name__} is not immutable: {error}") from None
    return state, tuple(commands)


def _is_step(step: object) -> bool:
    match step:
        case (Struct(), [*commands]):
            return all(isinstance(c, Command | Renew) for c in commands)
    return False
