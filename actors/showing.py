"""What the terminal shows of a flow that has ended, and of strategies."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bus.codec import encode_json
from observability.summary import FlowSummary
from orchestrations.machine import Strategy
from orchestrations.mermaid import mermaid
from orchestrations.registry import load, load_file, names, policy_names
from orchestrations.sandbox import check_any_file, path_of
from orchestrations.source import OrchestrationError
from orchestrations.svg import svg


def story(summary: FlowSummary) -> Table:
    """One flow as a table: states, commands and transfers in the order in which they began."""
    table = Table("at", "what", "took", "", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    lines = [(s.begin_s, 0, f"[bold]{s.name}[/]", s.seconds, "") for s in summary.states]
    lines += [(c.begin_s, 1, f"  {c.verb}", c.seconds, f"to {c.engine}") for c in summary.commands]
    for begin_s, _, what, seconds, note in sorted(lines):
        table.add_row(f"{begin_s * 1e3:7.1f} ms", what, f"{seconds * 1e3:7.1f} ms", note)
    return table


def transfers(summary: FlowSummary) -> list[str]:
    """One line per KV transfer."""
    return [
        f"KV {t.num_bytes / 1e6:.2f} MB in {t.num_pages} pages and {t.num_runs} writes from "
        f"{t.engine} over {t.lane}: {t.seconds * 1e3:.1f} ms, of which {t.exposed_s * 1e3:.1f} ms "
        f"after the last layer was computed; {t.gb_per_s:.2f} GB/s"
        for t in summary.transfers
    ]


def list_strategies(as_json: bool = False) -> None:
    told = {name: _first_line(name) for name in names() + policy_names()}
    if as_json:
        for name, what in told.items():
            click.echo(encode_json({"name": name, "what": what}))
        return
    table = Table("name", "what it does", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, what in told.items():
        table.add_row(name, what)
    Console().print(table)


def _first_line(name: str) -> str:
    about = ast.get_docstring(ast.parse(path_of(name).read_text())) or ""
    return about.partition("\n")[0]


def show_strategy(name: str) -> None:
    try:
        click.echo(path_of(name).read_text(), nl=False)
    except (OrchestrationError, OSError) as error:
        raise click.ClickException(str(error)) from None


def draw_strategy(name: str, as_svg: bool = False) -> None:
    draw = svg if as_svg else mermaid
    click.echo(draw(_find(name)))


def check_strategies(given: Sequence[str]) -> bool:
    """Print a verdict on each as it comes; True where all are sound. What is checked runs in a
    process of its own."""
    sound = True
    for number, name in enumerate(given or names() + policy_names()):
        verdict = check_any_file(path_of(name))
        click.echo(f"\n{verdict}" if number else str(verdict))
        sound = sound and verdict.passed
    return sound


def _find(name: str) -> Strategy:
    """A strategy by its name, or from a file."""
    try:
        return load_file(Path(name)) if name.endswith(".py") else load(name)
    except OrchestrationError as error:
        raise click.ClickException(str(error)) from None
