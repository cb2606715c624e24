"""A trace in the terminal: who did what when, and one line that says where the time went."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.text import Text

from .details import details, printable, seconds_text
from .shares import Share, shares
from .spans import Span
from .tree import Row, arrange

MAX_ROWS: Final = 200
MIN_WIDTH: Final = 60
SHOWN_SHARES: Final = 6
SMALLEST_SHARE: Final = 0.005

DURATION_WIDTH: Final = 8

COLOURS: Final = {
    "server": "bold",
    "producer": "cyan",
    "client": "cyan",
    "consumer": "green",
    "internal": "",
}


class Layout(Struct, frozen=True):
    """How many columns each part of a line has; the duration has 8, a space is between two."""

    width: int
    name: int
    bar: int

    @property
    def details(self) -> int:
        return self.width - self.name - self.bar - DURATION_WIDTH - 3


def render(spans: Iterable[Span], width: int = 120) -> RenderableType:
    """The waterfall of one flow for a terminal of ``width`` columns, at least 60.

    The tree is by parent, the bars are to the scale of the root's time. A broken trace is drawn as
    well as it can be (see `tree.arrange`); beyond 200 spans the rest is counted, not drawn.
    """
    rows = arrange(spans)
    if not rows:
        return Text("no spans")
    shown = rows[:MAX_ROWS]
    layout = _layout(shown, max(width, MIN_WIDTH))
    lines = [_line(row, rows[0].span, layout) for row in shown]
    if len(rows) > MAX_ROWS:
        lines.append(Text(f"... and {len(rows) - MAX_ROWS} more spans"))
    return Group(*lines, Text(), Text(where_time_went(shares(rows))))


def render_text(spans: Iterable[Span], width: int = 120) -> str:
    """The same without colours, for a file or a pipe. No line ends in a space."""
    page = io.StringIO()
    width = max(width, MIN_WIDTH)
    Console(file=page, width=width, color_system=None).print(render(spans, width))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())


def where_time_went(found: Sequence[Share]) -> str:
    """``62 % prefill on e0, 21 % decode on e1, 9 % KV at 1.1 GB/s over posix``."""
    if not found:
        return "no time passed"
    large = [s for s in found[:SHOWN_SHARES] if s.share >= SMALLEST_SHARE]
    rest = 1 - sum(share.share for share in large)
    told = [f"{_percent(share.share)} {share.label}" for share in large]
    return printable(", ".join(told + ([f"{_percent(rest)} other"] if rest >= 0.005 else [])))


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _layout(rows: Sequence[Row], width: int) -> Layout:
    longest = max(cell_len(row.branch + row.span.name) for row in rows)
    return Layout(width, min(longest, width * 2 // 5), max(width // 5, 12))


def _line(row: Row, root: Span, layout: Layout) -> Text:
    failed = row.span.error is not None
    name = Text.assemble((row.branch, "dim"), (printable(row.span.name), COLOURS[row.span.kind]))
    name.truncate(layout.name, overflow="ellipsis", pad=True)
    told = Text(details(row), style="red" if failed else "dim")
    told.truncate(layout.details, overflow="ellipsis")
    colour = "red" if failed else COLOURS[row.span.kind]
    took = seconds_text(row.span.duration_s).rjust(DURATION_WIDTH)
    return Text(" ", no_wrap=True).join(
        [name, Text(bar(row.span, root, layout.bar), colour), Text(took), told]
    )


def bar(span: Span, root: Span, width: int) -> str:
    """``width`` characters to the scale of ``root``; never empty, never outside.

    A span before or after the root's time (a clock of another machine) is drawn at that edge.
    """
    begin = _column(span.begin_s, root, width)
    end = max(_column(span.end_s, root, width), begin + 1)
    begin = min(begin, width - 1)
    return (" " * begin + "━" * (end - begin))[:width].ljust(width)


def _column(at_s: float, root: Span, width: int) -> int:
    if root.duration_s <= 0:
        return 0
    return round(min(max((at_s - root.begin_s) / root.duration_s, 0.0), 1.0) * width)
