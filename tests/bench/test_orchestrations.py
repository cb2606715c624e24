"""The sweep over strategies, in a short form: what it asks for, what it makes of it. Not timed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from bench.load import Kind, Seen, Workload, plan
from bench.orchestrations import add, main, read, result
from bench.orchestrations_plot import plot
from bench.sweep import ADAPTIVE, STATIC, Cell, Run, Sweep, cells
from bench.sweep_points import Point, figures, points, ratios, table

LONG, SHORT = Kind(40, 2), Kind(8, 6)
SHIFTING = Workload("d", "a mix", (LONG, SHORT), (5.0,))


def test_every_strategy_gets_the_same_requests_at_the_same_moments() -> None:
    assert plan(SHIFTING, 5.0, 10.0, seed=1) == plan(SHIFTING, 5.0, 10.0, seed=1)
    assert plan(SHIFTING, 5.0, 10.0, seed=1) != plan(SHIFTING, 5.0, 10.0, seed=2)


def test_requests_come_at_the_rate_that_was_asked_for() -> None:
    due = plan(SHIFTING, 20.0, 100.0, seed=1)

    assert len(due) == pytest.approx(2000, rel=0.1)
    assert [d.at_s for d in due] == sorted(d.at_s for d in due)


def test_a_mix_shifts_halfway() -> None:
    sizes = {(d.at_s < 50.0, len(d.prompt)) for d in plan(SHIFTING, 5.0, 100.0, seed=1)}

    assert sizes == {(True, 40), (False, 8)}


def test_prefixes_are_shared_and_the_rest_is_not() -> None:
    workload = Workload("c", "shared", (Kind(40, 2, shared_tokens=30, num_prefixes=4),), (5.0,))
    prompts = [d.prompt for d in plan(workload, 5.0, 100.0, seed=1)]

    assert len({p[:30] for p in prompts}) == 4
    assert len({p[30:] for p in prompts}) == len(prompts)


def point(
    workload: str, strategy: str, mean_s: float, p99_s: float, rate_per_s: float = 1
) -> Point:
    return Point(workload, rate_per_s, strategy, 10, 0, 0.1, 0.2, 0.01, 0.02, mean_s, p99_s)


POINTS = [
    point("a", "data_parallel", 1.0, 4.0),
    point("a", "disaggregated", 2.0, 2.0),
    point("a", "balanced", 3.0, 9.0),
    point("a", "adaptive", 1.1, 3.0),
    point("d", "data_parallel", 3.0, 5.0),
    point("d", "disaggregated", 2.0, 6.0),
    point("d", "balanced", 3.0, 9.0),
    point("d", "adaptive", 1.5, 4.5),
]


def test_each_ratio_compares_what_its_name_says() -> None:
    assert ratios(POINTS) == {
        "best_p99_jct_vs_data_parallel": pytest.approx(0.5),
        "adaptive_worst_vs_best_static": pytest.approx(1.1),
        "adaptive_on_shift_vs_best_static": pytest.approx(0.75),
    }


def test_a_strategy_that_fails_requests_is_not_the_quickest() -> None:
    failing = [replace(p, num_failed=1) if p.strategy == "disaggregated" else p for p in POINTS]

    found = ratios(failing)

    assert found["best_p99_jct_vs_data_parallel"] == pytest.approx(0.75)
    assert found["adaptive_on_shift_vs_best_static"] == pytest.approx(0.5)
    assert ratios([replace(p, num_failed=1) if p.strategy == "adaptive" else p for p in POINTS])[
        "adaptive_worst_vs_best_static"
    ] == float("inf")


def test_a_point_where_a_strategy_is_missing_compares_nothing() -> None:
    begun = point("b", "data_parallel", 0.001, 0.001)

    assert ratios([*POINTS, begun]) == ratios(POINTS)
    assert "| b, 1/s | data_parallel |" in table([*POINTS, begun])


def cell_run(strategy: str, seed: int, *jct_s: float, error: str = "") -> Run:
    cell = Cell("m", "a", 1.0, seed, strategy)
    seen = [Seen(0.1, 0.01, s) for s in jct_s] + ([Seen(error=error)] if error else [])
    return Run(cell, tuple(seen))


def test_the_requests_of_all_seeds_make_one_point() -> None:
    [found] = points([cell_run("x", 1, 1.0, 2.0), cell_run("x", 2, 6.0, error="no end")])

    assert (found.num_requests, found.num_failed) == (4, 1)
    assert found.jct_mean_s == pytest.approx(3.0)
    assert found.jct_p99_s == 2.0


def test_strategies_are_measured_side_by_side_and_every_point_once_before_any_twice() -> None:
    found = list(cells(Sweep((SHIFTING,), seeds=(1, 2))))

    assert [c.strategy for c in found[:4]] == [*STATIC, ADAPTIVE]
    assert [c.seed for c in found] == [1] * 4 + [2] * 4


async def test_a_file_that_has_everything_is_left_as_it_is(tmp_path: Path) -> None:
    sweep = Sweep((SHIFTING,), seeds=(1,), model="m")
    runs = [Run(cell, (Seen(0.1, 0.01, 1.0),)) for cell in cells(sweep)]
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in runs))

    await add(path, sweep, within_s=60.0)

    assert read(path) == runs
    assert set(result(read(path)).ratios) == set(result(read(path)).targets)


def test_a_failure_is_not_hidden_in_the_figures() -> None:
    failed = Point("a", 1, "balanced", 10, 3, *[0.1] * 6)

    assert "3 of 10 FAILED" in str(figures([failed])["a 1/s balanced"])
    assert "| 3 of 10 |" in table([*POINTS, failed])


def test_the_picture_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    plot(POINTS, tmp_path / "sweep.svg")

    assert "<svg" in (tmp_path / "sweep.svg").read_text()


def test_a_short_sweep_on_real_engines_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    sweep = Sweep((SHIFTING,), seconds=1.0, seeds=(1,), warm_up_s=0.3, tolerated=1.0)
    known = [Run(cell, (Seen(0.1, 0.01, 1.0),)) for cell in cells(sweep)][:2]
    path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in known))

    asyncio.run(add(path, sweep, within_s=60.0))

    runs = read(path)
    assert runs[:2] == known
    assert [one.cell for one in runs] == list(cells(sweep))
    assert all(seen.jct_s > 0 and not seen.error for one in runs for seen in one.seen)


@pytest.mark.parametrize(("model", "known"), [("little llama", "a, b, c, d"), ("default", "s")])
def test_a_workload_that_does_not_exist_is_answered_with_those_that_do(
    model: str, known: str, tmp_path: Path
) -> None:
    file = tmp_path / "runs"

    told = CliRunner().invoke(main, ["measure", str(file), "--workload", "z", "--model", model])

    assert told.exit_code == 2
    assert f"'z' is none of {known}, those of the model {model}" in told.output
    assert not file.exists()
