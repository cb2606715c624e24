"""What `microserve top` draws."""

from __future__ import annotations

import io

from msgspec.structs import replace
from rich.console import Console

from actors.live.rows import EngineRow
from actors.live.tally import Quantiles, StrategyLine
from actors.top import BAR, Shown, pages_bar, render

ENGINE = EngineRow(
    "e0", "m", "both", "", "alive", 3, 5, 64, 100, 100, 25, 25, 25, 25,
    10.0, 20.0, 0.0, 0.04, 1, 1e9,
)  # fmt: skip
LINE = StrategyLine(
    "disaggregated@2", 8, (("Generating", 7), ("Sending", 1)), 2.5, 1,
    Quantiles(0.1, 0.2), Quantiles(0.01, 0.02), Quantiles(1.0, 2.0),
)  # fmt: skip


def drawn(shown: Shown, height: int = 40) -> list[str]:
    page = io.StringIO()
    Console(file=page, width=140, color_system=None).print(render(shown, height))
    return [line.rstrip() for line in page.getvalue().splitlines()]


def test_the_fleet_and_its_strategies_are_drawn() -> None:
    lines = drawn(Shown([ENGINE], [LINE], 8))

    assert lines[0].split("   ")[0] == "microserve  1 engines"
    assert "8 flows in flight" in lines[0]
    assert "e0      both      3   5/64  ████████▒▒▒▒····" in lines[3]
    assert "disaggregated@2" in lines[-1]
    assert lines[-1].endswith("7 Generating, 1 Sending")
    assert "100.0 ms, 200.0 ms" in lines[-1]


def test_pages_are_drawn_to_scale_and_fill_the_bar() -> None:
    bar = pages_bar(ENGINE).plain

    assert len(bar) == BAR
    assert (bar.count("█"), bar.count("▒"), bar.count("·")) == (8, 4, 4)


def test_a_lost_engine_is_said_to_be_lost() -> None:
    lines = drawn(Shown([replace(ENGINE, status="lost")], [], 0))

    assert lines[3] == "e0      lost"
    assert lines[-1] == "no flow has been seen yet"


def test_where_not_all_engines_fit_the_busiest_are_shown_and_the_lost() -> None:
    engines = [replace(ENGINE, name=f"e{n:02}", running=n) for n in range(50)]
    engines[7] = replace(engines[7], status="lost")

    lines = drawn(Shown(engines, [LINE], 8), height=20)

    assert len(lines) <= 20
    assert any(line.startswith("e07") for line in lines)
    assert any(line.startswith("e49") for line in lines)
    assert "and 38 more engines, less busy" in lines
