"""`microserve orchestrations`: look at strategies; `cli_versions` puts them into service."""

from __future__ import annotations

import sys

import click

from .cli_parts import clean_errors
from .cli_versions import commands as version_commands


@click.group()
def orchestrations() -> None:
    """List, show, draw and check the strategies."""


@orchestrations.command("list")
def list_orchestrations() -> None:
    """All that are installed, one a line."""
    from .showing import list_strategies

    list_strategies()


@orchestrations.command("show")
@click.argument("name")
def show_orchestration(name: str) -> None:
    """The source of one: NAME, or a FILE of your own."""
    from .showing import show_strategy

    show_strategy(name)


@orchestrations.command("draw")
@click.option("--svg", "as_svg", is_flag=True, help="As a picture; default: Mermaid.")
@click.argument("name")
def draw_orchestration(name: str, as_svg: bool) -> None:
    """NAME or FILE as a state diagram, made by walking its paths."""
    from .showing import draw_strategy

    draw_strategy(name, as_svg)


@orchestrations.command("check")
@click.argument("names", nargs=-1)
@clean_errors
def check_orchestrations(names: tuple[str, ...]) -> None:
    """Walk every path of each NAME or FILE (default: all that are installed).

    Exit status 1 where something was found.
    """
    from .showing import check_strategies

    if not check_strategies(names):
        sys.exit(1)


for command in version_commands:
    orchestrations.add_command(command)
