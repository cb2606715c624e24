"""What a benchmark found, as a table for people or one JSON line for programs.

Figures drift with the machine and its neighbours; a ratio compares two things in one run, so that
it is the ratios that are worth comparing between commits.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from .machine import Machine

Figure: TypeAlias = float | int | str


class AtMost(Struct, frozen=True, tag=True):
    """A ratio that must not be larger."""

    limit: float

    def met(self, ratio: float) -> bool:
        return ratio <= self.limit

    def __str__(self) -> str:
        return f"at most {self.limit:g}"


class AtLeast(Struct, frozen=True, tag=True):
    """A ratio that must not be smaller."""

    limit: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.limit

    def __str__(self) -> str:
        return f"at least {self.limit:g}"


Target: TypeAlias = AtMost | AtLeast


class Result(Struct, frozen=True):
    """One run of one benchmark. Names of figures end in their unit: ``_us``, ``_gb_per_s``."""

    name: str
    ratios: dict[str, float]
    figures: dict[str, Figure]
    targets: dict[str, Target] = {}
    """By the name of a ratio."""

    def missed(self) -> list[str]:
        """Ratios that do not meet their target."""
        return [name for name, target in self.targets.items() if not target.met(self.ratios[name])]


def as_json(result: Result, machine: Machine) -> str:
    """One line: ``{"name", "ratios", "figures", "machine"}``."""
    line = {
        "name": result.name,
        "ratios": result.ratios,
        "figures": result.figures,
        "machine": machine,
    }
    return msgspec.json.encode(line).decode()


def show(result: Result, machine: Machine, console: Console) -> None:
    console.print(_ratios(result))
    console.print(_figures(result))
    console.print(
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_gib:g} GiB; others used"
        f" {machine.load_by_others:.0%} of it during the run",
        style="dim",
    )


def _ratios(result: Result) -> Table:
    table = Table("ratio", "measured", "target", title=result.name)
    missed = result.missed()
    for name, ratio in result.ratios.items():
        style = "red" if name in missed else "green" if name in result.targets else ""
        table.add_row(name, f"{ratio:.3f}", str(result.targets.get(name, "")), style=style)
    return table


def _figures(result: Result) -> Table:
    table = Table("figure", "measured")
    for name, figure in result.figures.items():
        shown = f"{figure:,.3f}" if isinstance(figure, float) else str(figure)
        table.add_row(name, shown)
    return table
