from __future__ import annotations

import io
import json

from click.testing import CliRunner
from rich.console import Console

from bench.__main__ import benchmarks, main
from bench.machine import Watch
from bench.report import AtLeast, AtMost, Result, as_json, show

RESULT = Result(
    "sample",
    ratios={"a_vs_b": 1.5, "c_vs_d": 0.9, "free": 3.0},
    figures={"lane": "sysv", "wait_us": 12.5, "rounds": 7},
    targets={"a_vs_b": AtMost(1.6), "c_vs_d": AtLeast(1.0)},
)


def test_a_result_is_one_line_of_json() -> None:
    line = as_json(RESULT, Watch.begin().machine())

    assert "\n" not in line
    told = json.loads(line)
    assert list(told) == ["name", "ratios", "figures", "machine"]
    assert told["ratios"] == RESULT.ratios
    assert told["figures"] == RESULT.figures
    assert told["machine"]["cores"] >= 1
    assert 0 <= told["machine"]["load_by_others"] <= 1


def test_a_target_is_missed_on_its_own_side_only() -> None:
    assert RESULT.missed() == ["c_vs_d"]


def test_people_see_every_ratio_with_its_target() -> None:
    page = io.StringIO()

    show(RESULT, Watch.begin().machine(), Console(file=page, width=100))

    for shown in ("a_vs_b", "at most 1.6", "at least 1", "12.500", "sysv"):
        assert shown in page.getvalue()


def test_benchmarks_are_found_with_what_they_measure() -> None:
    found = benchmarks()

    assert "copy" in found["transport"]
    assert "report" not in found
    assert "__main__" not in found


def test_an_unknown_benchmark_is_told_with_the_known_ones() -> None:
    told = CliRunner().invoke(main, ["nonsense"])

    assert told.exit_code == 2
    assert "transport" in told.output


def test_the_list_has_every_benchmark() -> None:
    told = CliRunner().invoke(main, ["--list"])

    assert told.exit_code == 0
    assert "transport" in told.output
