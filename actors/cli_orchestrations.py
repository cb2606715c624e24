"""`microserve orchestrations`: look at strategies; `cli_versions` puts them into service."""

from __future__ import annotations

import sys

import click

from .cli_completion import strategies
from .cli_parts import clean_errors
from .cli_versions import commands as version_commands


@click.group()
def orchestrations() -> None:
    """List, show, draw and check the strategies."""


@orchestrations.command("list")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each.")
def list_orchestrations(as_json: bool) -> None:
    """All that are installed, one a line.

    \b
    Examples:
      microserve orchestrations list
      microserve orchestrations list --json
    """
    from .showing import list_strategies

    list_strategies(as_json)


@orchestrations.command("show")
@click.argument("name", shell_complete=strategies)
def show_orchestration(name: str) -> None:
    """The source of one: NAME, or a FILE of your own.

    \b
    Examples:
      microserve orchestrations show disaggregated > mine.py
    """
    from .showing import show_strategy

    show_strategy(name)


@orchestrations.command("draw")
@click.option("--svg", "as_svg", is_flag=True, help="As a picture; default: Mermaid.")
@click.argument("name", shell_complete=strategies)
def draw_orchestration(name: str, as_svg: bool) -> None:
    """NAME or FILE as a state diagram, made by walking its paths.

    \b
    Examples:
      microserve orchestrations draw disaggregated
      microserve orchestrations draw --svg mine.py > mine.svg
    """
    from .showing import draw_strategy

    draw_strategy(name, as_svg)


@orchestrations.command("check")
@click.argument("names", nargs=-1, shell_complete=strategies)
@clean_errors
def check_orchestrations(names: tuple[str, ...]) -> None:
    """Walk every path of each NAME or FILE (default: all that are installed).

    Exit status 1 where something was found.

    \b
    Examples:
      microserve orchestrations check
      microserve orchestrations check mine.py
    """
    from .showing import check_strategies

    if not check_strategies(names):
        sys.exit(1)


for command in version_commands:
    orchestrations.add_command(command)
