"""What a strategy does, as arrows between its states: found by running it, drawn by others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from .answers import verb
from .explore import Moved, explore
from .machine import Done, Idle, Strategy
from .shapes import SHAPES, Shape

GIVING_UP: Final = frozenset({"Cancelled", "EngineLost", "Refused", "Superseded", "TimedOut"})
"""Events that, where they end a flow, share one arrow: they are the same in most states."""

Verbs: TypeAlias = tuple[str, ...]
_Seen: TypeAlias = dict[tuple[str, str], dict[str, list[Verbs]]]
"""From state to state, by which event, with which commands in the ways in which it was seen."""


class Arrow(Struct, frozen=True):
    """From one state to another, when one of ``events`` comes, with ``commands`` sent."""

    before: str
    after: str
    events: tuple[str, ...]
    commands: Verbs


class Drawing(Struct, frozen=True):
    """States in the order in which they are reached, `Idle` first and `Done` last; the arrows of
    each together, in that order."""

    states: tuple[str, ...]
    arrows: tuple[Arrow, ...]


def drawing(strategy: Strategy, shapes: Sequence[Shape] = SHAPES) -> Drawing:
    """All that the strategy does on these shapes.

    Events that change nothing are left out, and so are the conditions under which an event leads
    one way or the other: for those read the strategy.
    """
    seen = _seen(strategy, shapes)
    arrows = tuple(_arrows(seen))
    names = dict.fromkeys(name for arrow in arrows for name in (arrow.before, arrow.after))
    inner = [name for name in names if name not in (Idle.__name__, Done.__name__)]
    return Drawing((Idle.__name__, *inner, Done.__name__), arrows)


def _seen(strategy: Strategy, shapes: Sequence[Shape]) -> _Seen:
    seen: _Seen = {}
    for shape in shapes:
        for edge in explore(strategy, shape):
            if isinstance(edge, Moved) and _does_something(edge):
                _add(seen, edge)
    return seen


def _does_something(move: Moved) -> bool:
    return bool(move.commands) or move.before.state != move.after.state


def _add(all_seen: _Seen, move: Moved) -> None:
    between = type(move.before.state).__name__, type(move.after.state).__name__
    seen = all_seen.setdefault(between, {}).setdefault(type(move.cause.event).__name__, [])
    verbs = tuple(dict.fromkeys(verb(c) for c in move.commands))
    if verbs not in seen:
        seen.append(verbs)


def _arrows(seen: _Seen) -> Iterator[Arrow]:
    """The arrows out of one state together, states in the order in which they are reached."""
    for source in dict.fromkeys(before for before, _ in seen):
        for (before, after), events in seen.items():
            if before == source:
                yield from (Arrow(before, after, *label) for label in _labels(after, events))


def _labels(after: str, events: dict[str, list[Verbs]]) -> Iterator[tuple[tuple[str, ...], Verbs]]:
    """One label for all events that are answered with the same commands."""
    alike: dict[tuple[bool, Verbs], list[str]] = defaultdict(list)
    for event, ways in events.items():
        gives_up = after == Done.__name__ and event in GIVING_UP
        for verbs in [_all_of(ways)] if gives_up else _at_most(ways):
            alike[gives_up, verbs].append(event)
    for (_, verbs), names in sorted(alike.items(), key=lambda item: item[0][0]):
        yield tuple(sorted(names)), verbs


def _at_most(ways: list[Verbs]) -> list[Verbs]:
    """Without those that are another one but for a Release: it goes to whoever is there."""
    released = [tuple(v for v in verbs if v != "Release") for verbs in ways if "Release" in verbs]
    return [verbs for verbs in ways if verbs not in released]


def _all_of(ways: list[Verbs]) -> Verbs:
    """A Release is not sent to an engine that is gone: the drawing shows what is sent at most."""
    return tuple(dict.fromkeys(verb for verbs in ways for verb in verbs))
