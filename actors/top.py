"""`microserve top`: the fleet and its flows in a terminal, as the live page shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from bus.codec import encode_json
from bus.nats import NatsBus
from bus.subjects import Subjects
from observability.details import bytes_text, printable, seconds_text

from .clock import Clock, monotone
from .live.looking import Live, Viewer
from .live.rows import EngineRow
from .live.scene import Scene
from .live.tally import Quantiles, StrategyLine, Tally
from .settings import Settings

BAR: Final = 16
"""Columns of an engine's pages."""
OWNERS: Final = (("used", "blue", "█"), ("granted", "yellow", "█"), ("cached", "cyan", "▒"))
FREE: Final = "·"
FEWEST_ROWS: Final = 3
ONCE_S: Final = 1.5
"""After so long a single look has heard every engine and router at least twice."""


class Shown(Struct, frozen=True):
    """What is on the screen at one moment."""

    engines: Sequence[EngineRow]
    strategies: Sequence[StrategyLine]
    in_flight: int


async def top(settings: Settings, url: str, once: bool, as_json: bool) -> None:
    """Until it is cancelled; with ``once``, until it has looked for a moment. With ``as_json``,
    prints a line for each second instead."""
    clock = monotone()
    async with NatsBus(url, name="top") as bus, asyncio.TaskGroup() as tasks:
        live = Live(bus, Subjects(settings.namespace), clock)
        running = tasks.create_task(live.run())
        try:
            with live.look() as viewer:
                await _watch(live.scene, viewer, clock, once, as_json)
        finally:
            running.cancel()


async def _watch(scene: Scene, viewer: Viewer, clock: Clock, once: bool, as_json: bool) -> None:
    tally, console = Tally(scene), Console()
    begun_s = told_s = clock()
    with Screen(console=console, screen=not (once or as_json), auto_refresh=False) as screen:
        async for told in viewer:
            tally.heed(told)
            now = clock()
            last = once and now - begun_s >= ONCE_S
            shown = Shown(scene.engines, tally.lines(now), len(scene.flows))
            if as_json and (last or (not once and now - told_s >= 1)):
                told_s = now
                console.out(encode_json(_as_json(shown)).decode(), highlight=False)
            elif not as_json and (last or not once):
                screen.update(render(shown, console.height if not once else 1000), refresh=True)
            if last:
                return


def _as_json(shown: Shown) -> dict[str, object]:
    columns = EngineRow.__struct_fields__
    engines = [{name: getattr(e, name) for name in columns} for e in shown.engines]
    return {
        "engines": engines,
        "strategies": list(shown.strategies),
        "in_flight": shown.in_flight,
    }


def render(shown: Shown, height: int) -> RenderableType:
    """At most ``height`` lines: the busiest engines, where not all of them fit."""
    strategies = _strategies(shown.strategies)
    room = max(FEWEST_ROWS, height - len(shown.strategies) - 7)
    busiest = sorted(shown.engines, key=lambda e: (e.status == "alive", -e.running - e.waiting))
    engines = sorted(busiest[:room], key=lambda e: e.name)
    left = len(shown.engines) - len(engines)
    more = [Text(f"and {left} more engines, less busy", style="dim")] if left else []
    return Group(_headline(shown), Text(), _engines(engines), *more, Text(), strategies)


def _headline(shown: Shown) -> Text:
    alive = [e for e in shown.engines if e.status == "alive"]
    ended = sum(line.ended_per_s for line in shown.strategies)
    parts = (
        f"{len(alive)} engines",
        f"{shown.in_flight} flows in flight",
        f"{ended:.1f} ended/s",
        f"{sum(e.prefill_per_s for e in alive):.0f} prefill tok/s",
        f"{sum(e.decode_per_s for e in alive):.0f} decode tok/s",
    )
    told = Text.assemble(("microserve  ", "bold"), "   ".join(parts))
    told.no_wrap, told.overflow = True, "ellipsis"
    return told


def _engines(engines: Sequence[EngineRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("engine", "role"):
        table.add_column(name)
    for name in ("queue", "batch"):
        table.add_column(name, justify="right")
    table.add_column("pages")
    for name in ("prefill/s", "decode/s", "step", "link"):
        table.add_column(name, justify="right")
    for engine in engines:
        table.add_row(*_engine(engine), style="" if engine.status == "alive" else "red")
    return table


def _engine(e: EngineRow) -> tuple[str | Text, ...]:
    if e.status != "alive":
        return (printable(e.name), e.status)
    batch = f"{e.running}/{e.slots}" if e.slots else str(e.running)
    return (
        printable(e.name),
        e.role,
        str(e.waiting),
        batch,
        pages_bar(e),
        f"{e.prefill_per_s:.0f}",
        f"{e.decode_per_s:.0f}",
        seconds_text(e.step_s) if e.step_s else "-",
        f"{bytes_text(e.transfer_bytes_per_s)}/s" if e.transfer_bytes_per_s else "-",
    )


def pages_bar(engine: EngineRow) -> Text:
    """An engine's pages by owner, to scale: in use, granted, cached, free."""
    bar, filled, total = Text(), 0.0, max(1, engine.total_pages)
    for owner, colour, sign in OWNERS:
        begin = round(filled)
        filled += getattr(engine, f"{owner}_pages") / total * BAR
        bar.append(sign * (round(filled) - begin), style=colour)
    bar.append(FREE * (BAR - round(filled)), style="dim")
    return bar


def _strategies(lines: Sequence[StrategyLine]) -> Table | Text:
    if not lines:
        return Text("no flow has been seen yet", style="dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("strategy")
    for name in ("flows", "ended/s", "failed"):
        table.add_column(name, justify="right")
    for name in ("TTFT 50 %, 90 %", "TPOT", "JCT"):
        table.add_column(name, justify="right")
    table.add_column("states")
    for line in lines:
        states = ", ".join(f"{count} {state}" for state, count in line.states)
        table.add_row(
            printable(line.ref),
            str(line.in_flight),
            f"{line.ended_per_s:.1f}",
            str(line.failed),
            *(_quantiles(found) for found in (line.ttft, line.tpot, line.jct)),
            printable(states),
        )
    return table


def _quantiles(found: Quantiles) -> str:
    if found.p50 is None or found.p90 is None:
        return "-"
    return f"{seconds_text(found.p50)}, {seconds_text(found.p90)}"
