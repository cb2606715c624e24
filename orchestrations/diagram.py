"""A strategy's diagram as a layout: for whoever draws it with flows on it, as the live page does.

``python -I -m orchestrations.diagram`` reads an `Errand` and writes a `Diagram`: a strategy is
walked in a process of its own, for it takes seconds and may be anybody's code.
"""

from __future__ import annotations

import sys

from msgspec import Struct

from bus.codec import decode, encode

from .arrows import GIVING_UP, Arrow, Drawing, drawing
from .machine import Done, Strategy
from .registry import load_text
from .svg import place


class Errand(Struct, frozen=True):
    """A strategy's file."""

    name: str
    text: str


class Label(Struct, frozen=True):
    events: tuple[str, ...]
    commands: tuple[str, ...]


class Line(Struct, frozen=True):
    """From one row to another, in a column of its own wherever another would touch it."""

    begin: int
    end: int
    column: int
    labels: tuple[Label, ...]


class Diagram(Struct, frozen=True):
    states: tuple[str, ...]
    """One a row, from the top."""
    lines: tuple[Line, ...]
    quiet: tuple[Line, ...]
    """Ways out for flows that are cancelled, lost or too late, where nothing else goes that way."""


def diagram(strategy: Strategy) -> Diagram:
    """The same for the same strategy."""
    found = _downwards(drawing(strategy))
    main = tuple(arrow for arrow in found.arrows if not _gives_up(arrow))
    ways = {(arrow.before, arrow.after) for arrow in main}
    rest = tuple(
        arrow
        for arrow in found.arrows
        if _gives_up(arrow) and (arrow.before, arrow.after) not in ways
    )
    return Diagram(found.states, _lines(found, main), _lines(found, rest))


def _downwards(found: Drawing) -> Drawing:
    """Its states in an order in which flows go down, but where they come back to a state."""
    ways = {name: [a.after for a in found.arrows if a.before == name] for name in found.states}
    ordered: list[str] = []
    seen: set[str] = set()

    def visit(state: str) -> None:
        if state in seen:
            return
        seen.add(state)
        for after in ways[state]:
            visit(after)
        ordered.append(state)

    for state in found.states:
        visit(state)
    return Drawing(tuple(reversed(ordered)), found.arrows)


def _gives_up(arrow: Arrow) -> bool:
    return arrow.after == Done.__name__ and GIVING_UP.issuperset(arrow.events)


def _lines(found: Drawing, arrows: tuple[Arrow, ...]) -> tuple[Line, ...]:
    placed = place(Drawing(found.states, arrows))
    return tuple(
        Line(p.begin, p.end, p.column, tuple(Label(a.events, a.commands) for a in p.arrows))
        for p in placed
    )


def main() -> None:
    errand = decode(sys.stdin.buffer.read(), Errand)
    strategy = load_text(errand.text, f"{errand.name}.py")
    sys.stdout.buffer.write(encode(diagram(strategy)))


if __name__ == "__main__":
    main()
