"""Draw a strategy as a Mermaid state diagram, by running it: the drawing cannot be out of date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from .answers import verb
from .explore import Moved, explore
from .machine import Done, Idle, Strategy
from .shapes import SHAPES, Shape

GIVING_UP: Final = frozenset({"Cancelled", "EngineLost", "Refused", "Superseded", "TimedOut"})
"""Events that, where they end a flow, share one arrow: they are the same in most states."""

Verbs: TypeAlias = tuple[str, ...]
Arrows: TypeAlias = dict[tuple[str, str], dict[str, list[Verbs]]]
"""From state to state, by which event, with which commands in the ways in which it was seen."""


def mermaid(strategy: Strategy, shapes: Sequence[Shape] = SHAPES) -> str:
    """A ``stateDiagram-v2`` with labels ``Event, Event / Command, Command``; no newline at its end.

    Events that change nothing are left out, and so are the conditions under which an event leads
    one way or the other: for those read the strategy.
    """
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {Idle.__name__}",
            *(f"    {line}" for line in _lines(_arrows(strategy, shapes))),
            f"    {Done.__name__} --> [*]",
        ]
    )


def _arrows(strategy: Strategy, shapes: Sequence[Shape]) -> Arrows:
    arrows: Arrows = {}
    for shape in shapes:
        for edge in explore(strategy, shape):
            if isinstance(edge, Moved) and _does_something(edge):
                _add(arrows, edge)
    return arrows


def _does_something(move: Moved) -> bool:
    return bool(move.commands) or move.before.state != move.after.state


def _add(arrows: Arrows, move: Moved) -> None:
    between = type(move.before.state).__name__, type(move.after.state).__name__
    seen = arrows.setdefault(between, {}).setdefault(type(move.cause.event).__name__, [])
    verbs = tuple(dict.fromkeys(verb(c) for c in move.commands))
    if verbs not in seen:
        seen.append(verbs)


def _lines(arrows: Arrows) -> Iterator[str]:
    """The arrows out of one state together, states in the order in which they are reached."""
    sources = dict.fromkeys(before for before, _ in arrows)
    for source in sources:
        for (before, after), events in arrows.items():
            if before == source:
                yield from (f"{before} --> {after}: {label}" for label in _labels(after, events))


def _labels(after: str, events: dict[str, list[Verbs]]) -> Iterator[str]:
    """One label for all events that are answered with the same commands."""
    alike: dict[tuple[bool, Verbs], list[str]] = defaultdict(list)
    for event, ways in events.items():
        gives_up = after == Done.__name__ and event in GIVING_UP
        for verbs in [_all_of(ways)] if gives_up else ways:
            alike[gives_up, verbs].append(event)
    for (_, verbs), names in sorted(alike.items(), key=lambda item: item[0][0]):
        yield ", ".join(sorted(names)) + (f" / {', '.join(verbs)}" if verbs else "")


def _all_of(ways: list[Verbs]) -> Verbs:
    """A Release is not sent to an engine that is gone: the drawing shows what is sent at most."""
    return tuple(dict.fromkeys(verb for verbs in ways for verb in verbs))
