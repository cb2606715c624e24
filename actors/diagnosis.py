"""What `microserve doctor` finds, how it is shown, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import Final, Literal, TypeAlias

import click
from msgspec import Struct
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from bus.codec import encode_json

State: TypeAlias = Literal["ok", "note", "fault"]

_COLOURS: Final[dict[State, str]] = {"ok": "green", "note": "yellow", "fault": "bold red"}
_COLUMN: Final = 20


class Finding(Struct, frozen=True):
    """One thing that was looked at. What is not ``ok`` comes with what can be done."""

    area: str
    state: State
    what: str
    advice: str = ""


def ok(area: str, what: str) -> Finding:
    return Finding(area, "ok", what)


def note(area: str, what: str, advice: str) -> Finding:
    """Something is missing that not everybody needs."""
    return Finding(area, "note", what, advice)


def fault(area: str, what: str, advice: str) -> Finding:
    return Finding(area, "fault", what, advice)


async def show(findings: AsyncIterable[Finding], as_json: bool) -> None:
    """Print each as it comes.

    Raises:
        click.exceptions.Exit: with status 1, at the end, where one is a fault.
    """
    console, healthy = Console(), True
    async for finding in findings:
        healthy = healthy and finding.state != "fault"
        if as_json:
            click.echo(encode_json(finding))
        else:
            console.print(_line(finding))
            if finding.advice:
                console.print(Padding(f"[bold]{finding.advice}[/]", (0, 0, 0, _COLUMN)))
    if not healthy:
        raise click.exceptions.Exit(1)


def _line(finding: Finding) -> Table:
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=6)
    line.add_column(width=_COLUMN - 8)
    line.add_column(overflow="fold")
    line.add_row(f"[{_COLOURS[finding.state]}]{finding.state}[/]", finding.area, finding.what)
    return line
