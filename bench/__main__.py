"""``python -m bench NAME [--json]`` runs one benchmark; ``python -m bench --list`` names them.

A benchmark is a module of this folder with a docstring of one line and ``def run() -> Result``.
"""

from __future__ import annotations

import ast
import importlib
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from .machine import Watch
from .progress import hidden
from .report import Result, as_json, show


def benchmarks() -> dict[str, str]:
    """Names and what they measure. Nothing is imported: a benchmark may need much."""
    found: dict[str, str] = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def result_of(name: str) -> Result:
    module = importlib.import_module(f"bench.{name}")
    return cast(Result, module.run())


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_line", is_flag=True, help="Print one JSON line instead of a table.")
@click.option("--list", "listing", is_flag=True, help="Name the benchmarks.")
def main(name: str | None, as_line: bool, listing: bool) -> None:
    """Run the benchmark NAME and print its ratios and figures."""
    known = benchmarks()
    if listing or name is None:
        width = max(map(len, known))
        for known_name, what in known.items():
            click.echo(f"{known_name:{width}}  {what}")
        return
    if name not in known:
        raise click.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="NAME")
    watch = Watch.begin()
    with hidden() if as_line else nullcontext():
        result = result_of(name)
    machine = watch.machine()
    if as_line:
        click.echo(as_json(result, machine))
    else:
        show(result, machine, Console())


if __name__ == "__main__":
    main()
