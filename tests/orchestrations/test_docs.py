"""What the documentation shows is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from bus.messages import AnyCommand, Cancelled, Event, Release
from orchestrations.check import check
from orchestrations.disaggregated import disaggregated
from orchestrations.docs import DOCS, PAGE, drifted, write
from orchestrations.machine import Done, Sending, State, Step
from orchestrations.registry import load_file
from orchestrations.rules import Problem
from orchestrations.sandbox import check_any_file, check_file

from .finding import found

EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n```python\n(.*?)```", re.DOTALL)


def page() -> str:
    return (DOCS / PAGE).read_text(encoding="utf-8")


def test_the_generated_files_are_up_to_date() -> None:
    stale = sorted(path.name for path in drifted())

    assert stale == [], "run: python -m orchestrations --write-docs"


def test_a_changed_drawing_is_noticed_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text(page().replace("stateDiagram-v2", "stateDiagram-v1"))

    written = write(tmp_path)

    assert {p.name for p in written} >= {PAGE, "data_parallel.mmd", "disaggregated.mmd"}
    assert (tmp_path / PAGE).read_text() == page()
    assert write(tmp_path) == ()


def test_a_block_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text("<!-- generated: poem data_parallel -->\n<!-- end -->\n")

    with pytest.raises(ValueError, match="'poem'"):
        drifted(tmp_path)


def test_the_example_of_the_page_passes_as_the_page_says(tmp_path: Path) -> None:
    [(name, text)] = EXAMPLE.findall(page())
    path = tmp_path / f"{name}.py"
    path.write_text(text)

    verdict = check(load_file(path))

    assert verdict.passed
    assert f"$ python -m orchestrations {name}.py\n{verdict}\n" in page()


def test_the_counterexample_of_the_page_is_what_the_check_says() -> None:
    def forgets_the_prefiller(state: State, event: Event) -> Step:
        match state, event:
            case Sending(job), Cancelled():
                return Done("cancelled"), [Release(job.decode)]
        return disaggregated(state, event)

    assert str(found(forgets_the_prefiller, "leak")) in page()


def test_every_command_and_every_problem_is_explained() -> None:
    verbs = [kind.__name__ for kind in get_args(AnyCommand)]

    assert [v for v in verbs if f"| `{v}(" not in page()] == []
    assert [p for p in get_args(Problem) if f"| `{p}` |" not in page()] == []


def test_the_strategy_that_the_guide_writes_passes_as_the_guide_says(tmp_path: Path) -> None:
    guide = (DOCS / "write-a-strategy.md").read_text(encoding="utf-8")
    [(name, text), _] = EXAMPLE.findall(guide)
    path = tmp_path / f"{name}.py"
    path.write_text(text)

    verdict = check_file(path)

    assert verdict.passed
    assert f"$ microserve orchestrations check {name}.py\n{verdict}\n" in guide


def test_the_policy_that_the_guide_writes_is_fit_once_its_strategy_is_known(tmp_path: Path) -> None:
    guide = (DOCS / "write-a-strategy.md").read_text(encoding="utf-8")
    [(strategy, _), (name, text)] = EXAMPLE.findall(guide)
    path = tmp_path / f"{name}.py"
    path.write_text(text)

    assert not check_any_file(path).passed
    assert check_any_file(path, [strategy]).passed
