"""Draw a strategy as a Mermaid state diagram, by running it: the drawing cannot be out of date."""

from __future__ import annotations

from collections.abc import Sequence

from .arrows import Arrow, drawing
from .machine import Done, Idle, Strategy
from .shapes import SHAPES, Shape


def mermaid(strategy: Strategy, shapes: Sequence[Shape] = SHAPES) -> str:
    """A ``stateDiagram-v2`` with labels ``Event, Event / Command, Command``; no newline at its end,
    of what `drawing` finds."""
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {Idle.__name__}",
            *(f"    {_line(arrow)}" for arrow in drawing(strategy, shapes).arrows),
            f"    {Done.__name__} --> [*]",
        ]
    )


def _line(arrow: Arrow) -> str:
    sent = f" / {', '.join(arrow.commands)}" if arrow.commands else ""
    return f"{arrow.before} --> {arrow.after}: {', '.join(arrow.events)}{sent}"
