"""Is a strategy fit to be loaded? Walk all its paths over several fleets, and say what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, get_type_hints

from msgspec import Struct

from bus.codec import Undecodable, decode, encode

from .answers import verb
from .cycles import first_cycle
from .explore import MAX_WORLDS, Edge, Moved, Walk, explore
from .machine import State, Strategy
from .paths import num_paths
from .rules import Fault, Problem, faults
from .shapes import SHAPES, Shape
from .wording import words

Key: TypeAlias = tuple[object, ...]


class Finding(Struct, frozen=True):
    """A rule that a strategy breaks, and a shortest path on which it does."""

    problem: Problem
    message: str
    shape: str
    path: tuple[str, ...]
    """One line a step; the first is the `Submitted`."""

    def __str__(self) -> str:
        numbered = (f"  {number}. {line}" for number, line in enumerate(self.path, 1))
        return "\n".join([f"{self.problem}: {self.message}", f"  on {self.shape}:", *numbered])


class Verdict(Struct, frozen=True, tag=True):
    """What the walks over all shapes showed."""

    name: str
    states: tuple[str, ...]
    """The names of the states that were reached, in the order in which they were."""
    worlds: int
    edges: int
    paths: int | None
    """Ways from the first state to the last; None where the engines, the user or an operator can
    keep some going for ever."""
    exhaustive: bool
    """False where a walk was given up: it found too many worlds, or a call did not return."""
    findings: tuple[Finding, ...]
    """One of each kind, shortest path first."""

    @property
    def passed(self) -> bool:
        return self.exhaustive and not self.findings

    def __str__(self) -> str:
        word = "passed" if self.passed else "not fit to be loaded"
        return "\n\n".join([f"{self.name}: {word} ({self._counted})", *map(str, self.findings)])

    @property
    def _counted(self) -> str:
        paths = "no end of" if self.paths is None else f"{self.paths:,}"
        whole = "all there are" if self.exhaustive else "not all"
        return (
            f"{len(self.states)} states, {self.worlds:,} worlds, {self.edges:,} edges, "
            f"{paths} paths: {whole}"
        )


class _Inspection(Struct):
    """What the walk over one shape showed."""

    states: tuple[str, ...]
    num_worlds: int
    num_edges: int
    num_paths: int | None
    exhaustive: bool
    findings: dict[Key, Finding]


def check(
    strategy: Strategy, shapes: Sequence[Shape] = SHAPES, max_worlds: int = MAX_WORLDS
) -> Verdict:
    """Walk all paths of the strategy over all shapes. Never raises for what a strategy does."""
    seen = list(_inspections(strategy, shapes, max_worlds))
    return Verdict(
        name=getattr(strategy, "__name__", repr(strategy)),
        states=tuple(dict.fromkeys(chain.from_iterable(s.states for s in seen))),
        worlds=sum(s.num_worlds for s in seen),
        edges=sum(s.num_edges for s in seen),
        paths=_sum([s.num_paths for s in seen]),
        exhaustive=all(s.exhaustive for s in seen),
        findings=_one_of_each(seen),
    )


def _inspections(
    strategy: Strategy, shapes: Sequence[Shape], max_worlds: int
) -> Iterator[_Inspection]:
    """A strategy without an end on one shape is not fit, and would take as long on the others."""
    for shape in shapes:
        inspection = _inspect(strategy, shape, max_worlds)
        yield inspection
        if not inspection.exhaustive:
            return


def _one_of_each(seen: Iterable[_Inspection]) -> tuple[Finding, ...]:
    best: dict[Key, Finding] = {}
    for key, finding in chain.from_iterable(s.findings.items() for s in seen):
        if key not in best or len(finding.path) < len(best[key].path):
            best[key] = finding
    if not any(s.num_edges for s in seen):
        message = "it declines every request, whatever the fleet"
        return (Finding("serves_nobody", message, "every shape", ()),)
    return tuple(sorted(best.values(), key=lambda f: len(f.path)))


def _inspect(strategy: Strategy, shape: Shape, max_worlds: int) -> _Inspection:
    walk = explore(strategy, shape, max_worlds)
    stored: set[State] = set()
    kind, moves, num_edges = _kind_of_states(strategy), list[Moved](), 0
    findings: dict[Key, Finding] = {}
    for edge in walk:
        num_edges += 1
        if isinstance(edge, Moved):
            moves.append(edge)
        for fault in chain(faults(edge, shape.request), _not_bytes(edge, stored, kind)):
            if (key := _key(fault, edge)) not in findings:
                path = words([*walk.path(edge.before), edge])
                findings[key] = Finding(fault.problem, fault.message, shape.name, path)
    for finding in chain(_endless(walk, moves, shape), _too_many(walk, shape)):
        findings[(finding.problem,)] = finding
    states = tuple(dict.fromkeys(type(w.state).__name__ for w in walk.reached))
    paths = num_paths(walk.start, moves)
    return _Inspection(states, len(walk.reached), num_edges, paths, walk.exhaustive, findings)


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _key(fault: Fault, edge: Edge) -> Key:
    """Two faults alike in this are one mistake, met on different paths or engines."""
    before, event = type(edge.before.state), type(edge.cause.event)
    if not isinstance(edge, Moved):
        return fault.problem, before, event
    return fault.problem, before, event, type(edge.after.state), *map(verb, edge.commands)


def _kind_of_states(strategy: Strategy) -> Any:
    """The union that the strategy's states are stored and read as: the annotation of its first
    parameter, so that a strategy may have states of its own."""
    try:
        hints = get_type_hints(strategy)
    except (NameError, TypeError, AttributeError):
        return State
    return next((kind for name, kind in hints.items() if name != "return"), State)


def _not_bytes(edge: Edge, stored: set[State], kind: Any) -> Iterator[Fault]:
    """A state must survive as bytes: it is stored after every step and read by another router."""
    if not isinstance(edge, Moved) or edge.after.state in stored:
        return
    state = edge.after.state
    stored.add(state)
    try:
        same = decode(encode(state), kind) == state
    except (Undecodable, TypeError) as error:
        yield Fault("not_bytes", f"{type(state).__name__} does not come back from bytes: {error}")
        return
    if not same:
        yield Fault("not_bytes", f"{type(state).__name__} comes back from bytes as another value")


def _endless(walk: Walk, moves: Iterable[Moved], shape: Shape) -> Iterator[Finding]:
    if cycle := first_cycle(moves):
        head = walk.path(cycle[0].before)
        path = (*words([*head, *cycle]), f"and so on for ever, from step {len(head) + 1}")
        yield Finding("endless", "the engines can keep this going for ever", shape.name, path)


def _too_many(walk: Walk, shape: Shape) -> Iterator[Finding]:
    if walk.is_full:
        message = (
            f"gave up after {len(walk.reached)} worlds: the states of this strategy may have no "
            "end, as where one counts its tries without a limit"
        )
        last = next(reversed(walk.reached))
        yield Finding("too_many_worlds", message, shape.name, words(walk.path(last)))
