"""Draw a strategy as SVG: every state is a bar, every arrow has a column for as long as it is.

```
[ Idle                          ]      An arrow that passes a state goes behind its bar. Two arrows
   |Submitted     |Submitted           share a column where one ends no later than the other begins,
   v/ PrepRecv    |/ StartGenerate     so that no arrow and no label is ever on top of another.
[ Preparing ]     |
   |Prepared      |
   v              v
[ Generating                    ]
```
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape
from itertools import accumulate, count
from textwrap import wrap
from typing import Final

from msgspec import Struct

from .arrows import Arrow, Drawing, drawing
from .machine import Strategy
from .shapes import SHAPES, Shape

COLUMN: Final = 190
LINE: Final = 14
BAR: Final = 26
MARGIN: Final = 16
CHARS: Final = 26
"""Of a label's line; what fits into a column."""

STYLE: Final = (
    "text{font:12px sans-serif;fill:#222}.state{font-weight:bold}.sent{fill:#06c}"
    "rect{fill:#eef3fa;stroke:#456}path{fill:none;stroke:#456}"
)
HEAD: Final = (
    '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#456"/></marker>'
)


class Placed(Struct, frozen=True):
    """The arrows from one row to another, drawn as one, and their column."""

    arrows: tuple[Arrow, ...]
    begin: int
    end: int
    column: int

    @property
    def gap(self) -> int:
        """The gap that its label is in: under the bar where it begins, or above, if it goes up."""
        return self.begin - 1 if self.end < self.begin else self.begin

    @property
    def gaps(self) -> range:
        """Those that it runs through; one that leads back to its own bar turns in the one below."""
        return range(min(self.begin, self.end), max(self.end, self.begin, self.gap + 1))


def svg(strategy: Strategy, shapes: Sequence[Shape] = SHAPES) -> str:
    """A picture of what `drawing` finds; the same for the same strategy, to the byte."""
    found = drawing(strategy, shapes)
    placed = place(found)
    tops = _tops(found, placed)
    width = MARGIN * 2 + COLUMN * (1 + max((p.column for p in placed), default=0))
    height = tops[-1] + BAR + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">',
        f"<style>{STYLE}</style><defs>{HEAD}</defs>",
        f'<path d="M0 0H{width}V{height}H0z" style="fill:#fff;stroke:none"/>',
        *(_line(p, tops) for p in placed),
        *(text for row, name in enumerate(found.states) for text in _bar(row, name, placed, tops)),
        *(text for p in placed for text in _label(p, tops)),
        "</svg>",
    ]
    return "\n".join(lines)


def place(found: Drawing) -> list[Placed]:
    """Each in the first column that is free all along it, short ones first."""
    rows = {name: row for row, name in enumerate(found.states)}
    between: dict[tuple[int, int], list[Arrow]] = defaultdict(list)
    for arrow in found.arrows:
        between[rows[arrow.before], rows[arrow.after]].append(arrow)
    taken: dict[int, set[int]] = defaultdict(set)
    placed: list[Placed] = []
    for begin, end in sorted(between, key=lambda span: (abs(span[1] - span[0]) or 1, span)):
        tries = (Placed(tuple(between[begin, end]), begin, end, column) for column in count())
        here = next(p for p in tries if taken[p.column].isdisjoint(p.gaps))
        taken[here.column].update(here.gaps)
        placed.append(here)
    return placed


def words(arrows: Sequence[Arrow]) -> list[tuple[str, bool]]:
    """The lines of their label, and whether each says what is sent: else it is what comes."""
    lines: list[tuple[str, bool]] = []
    for arrow in arrows:
        lines += [(text, False) for text in wrap(", ".join(arrow.events), CHARS)]
        sent = f"/ {', '.join(arrow.commands)}" if arrow.commands else ""
        lines += [(text, True) for text in wrap(sent, CHARS)]
    return lines


def _tops(found: Drawing, placed: Sequence[Placed]) -> list[int]:
    """Where each bar begins: a gap is as high as the longest label in it."""
    gaps = [LINE * 2] * (len(found.states) - 1)
    for p in placed:
        num_lines = len(words(p.arrows))
        if p.gap < len(gaps):
            gaps[p.gap] = max(gaps[p.gap], LINE * (num_lines + 2))
    return list(accumulate((BAR + gap for gap in gaps), initial=MARGIN))


def _x(column: int) -> int:
    return MARGIN + COLUMN * column + 14


def _line(p: Placed, tops: Sequence[int]) -> str:
    x, below = _x(p.column), tops[p.begin] + BAR
    if p.begin == p.end:
        turn = f"M{x} {below}v{LINE}h-8v-{LINE}"
        return f'<path d="{turn}" marker-end="url(#head)"/>'
    begin, end = (below, tops[p.end]) if p.end > p.begin else (tops[p.begin], tops[p.end] + BAR)
    return f'<path d="M{x} {begin}V{end}" marker-end="url(#head)"/>'


def _bar(row: int, name: str, placed: Sequence[Placed], tops: Sequence[int]) -> Iterator[str]:
    columns = [p.column for p in placed if row in (p.begin, p.end)] or [0]
    left, right = _x(min(columns)) - 14, _x(max(columns)) + COLUMN - 60
    yield (
        f'<rect x="{left}" y="{tops[row]}" width="{right - left}" height="{BAR}" rx="6"/>'
        f'<text class="state" x="{left + 26}" y="{tops[row] + 17}">{escape(name)}</text>'
    )


def _label(p: Placed, tops: Sequence[int]) -> Iterator[str]:
    lines = words(p.arrows)
    y = tops[p.begin] + BAR + LINE if p.gap == p.begin else tops[p.begin] - LINE * len(lines)
    for number, (text, is_sent) in enumerate(lines):
        kind = ' class="sent"' if is_sent else ""
        yield f'<text{kind} x="{_x(p.column) + 6}" y="{y + LINE * number}">{escape(text)}</text>'
