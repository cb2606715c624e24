"""The waterfall as a user sees it; the one in the documentation is compared, so it cannot drift.

After a wanted change: ``python -m tests.observability.test_waterfall`` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from observability import names
from observability.details import bytes_text, seconds_text
from observability.flow import FlowTrace
from observability.spans import Span
from observability.waterfall import MAX_ROWS, render, render_text

from .scripted import FLOW, at, begun, cancelled, disaggregated, failed

DOCUMENT = Path(__file__).parents[2] / "docs" / "observability.md"
BEGIN = "<!-- the waterfall begins: made by tests/observability/test_waterfall.py -->\n"
END = "<!-- the waterfall ends -->\n"


def documented() -> str:
    return f"```\n{render_text(disaggregated(), 132)}\n```\n"


def test_the_picture_in_the_documentation_is_what_is_drawn() -> None:
    _, _, rest = DOCUMENT.read_text().partition(BEGIN)

    assert rest.partition(END)[0] == documented()


def test_a_failure_is_drawn_with_its_reason() -> None:
    assert render_text(failed(), 85).splitlines() == [
        "microserve.request          ━━━━━━━━━━━━━━━━━  62.0 ms ✗ transfer_failed: e1 is gone…",
        "└─ Sending                  ━━━━━━━━━━━━━━━━━  62.0 ms ✗ transfer_failed: e1 is gone",
        "   └─ send RemoteSend       ━━━━━━━━━━━━━━━━━  62.0 ms ✗ transfer_failed: e1 is gone…",
        "      └─ process RemoteSend ━━━━━━━━━━━━━━━━   59.0 ms ✗ transfer_failed: e1 is gone…",
        "         └─ prefill         ━━━━━━━━━━━━━━     49.0 ms on e0, tokens 512",
        "",
        "79 % prefill on e0, 16 % RemoteSend on e0, 5 % messages",
    ]


def test_commands_that_nobody_answered_are_marked() -> None:
    lines = render_text(cancelled(), 100).splitlines()

    assert [line.rsplit(" ms ")[1] for line in lines if "send" in line] == [
        "to e0, unanswered",
        "to e1, unanswered",
        "to e0",
    ]


def test_no_spans_are_said_to_be_none() -> None:
    assert render_text([]) == "no spans"


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in (60, 80, 120, 200):
        assert max(len(line) for line in render_text(disaggregated(), width).splitlines()) <= width


def test_a_narrow_terminal_still_shows_names_and_times() -> None:
    lines = render_text(disaggregated(), 20).splitlines()

    assert "kv.transfer" in "".join(lines)
    assert "400.0 ms" in "".join(lines)


def test_nothing_in_a_trace_reaches_the_terminal_as_a_command() -> None:
    trace = FlowTrace(FLOW, None, at(0))
    trace.about({names.REQUEST_MODEL: "\x1b[2Jmodel\x07\n"})
    trace.moved("Idle", "Submitted", "\x1b]0;title\x07", at(0))
    trace.ended("finished", at(9), error="bad \x1b[31m[bold]markup[/bold]")

    drawn = render_text(trace.drain())

    assert not set(drawn) & {"\x1b", "\x07"}
    assert "[bold]markup[/bold]" in drawn


def test_errors_are_red_in_a_terminal() -> None:
    console = Console(width=100, color_system="standard", force_terminal=True, record=True)

    with console.capture() as captured:
        console.print(render(failed(), 100))

    assert "\x1b[31m" in captured.get()


def many(count: int) -> list[Span]:
    trace = begun()
    spans = []
    for number in range(count):
        trace.ordered("Query", "e0", number, at(number))
        trace.answered("Query", "e0", number, at(number + 1))
        spans += trace.drain()
    trace.ended("finished", at(count))
    return spans + trace.drain()


def test_spans_beyond_a_page_are_counted() -> None:
    drawn = render_text(many(MAX_ROWS + 4))

    assert len(drawn.splitlines()) == MAX_ROWS + 3
    assert "... and 5 more spans" in drawn


def test_a_request_without_time_is_drawn() -> None:
    trace = begun()
    trace.ended("refused", at(0))

    assert "no time passed" in render_text(trace.drain())


def test_amounts_have_units_that_fit() -> None:
    assert [bytes_text(n) for n in (0, 999, 1500, 23_592_960, 4e9)] == [
        "0 B", "999 B", "1.5 kB", "23.6 MB", "4.0 GB",
    ]  # fmt: skip
    assert [seconds_text(s) for s in (0, 12e-6, 3.44e-3, 1.25)] == [
        "0 µs", "12 µs", "3.4 ms", "1.25 s",
    ]  # fmt: skip


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + documented() + END + rest.partition(END)[2])
