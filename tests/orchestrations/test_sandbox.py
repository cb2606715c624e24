"""Files are checked in a process of their own, and every kind of mistake in them is found."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from orchestrations.registry import FOLDER, UnknownOrchestration, names
from orchestrations.rules import Problem
from orchestrations.sandbox import Limits, check_file, path_of
from orchestrations.source import BadStrategy

from .planted import PLANTED, REFUSED

LIMITS = Limits(cpu_s=30, memory_mib=1024, call_s=0.2, max_worlds=2000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "planted.py"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_with_a_path_to_it(name: str, file: Path) -> None:
    planted = PLANTED[name]
    file.write_text(planted.text)

    verdict = check_file(file, LIMITS)

    found = [f for f in verdict.findings if f.problem == planted.problem]
    assert not verdict.passed
    assert found, f"{planted.problem} was not found, but {verdict}"
    assert any(planted.message in f"{f.message} {f.path}" for f in found)
    assert all(f.path[0].startswith("Submitted") for f in found if f.path)


def test_every_kind_of_problem_is_planted_once_at_least() -> None:
    kinds = {planted.problem for planted in PLANTED.values()}

    of_policies = {"names_nobody"}
    assert set(get_args(Problem)) - kinds == {"no_verdict", *of_policies}
    assert len(PLANTED) >= 15


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_may_not_be_loaded_is_refused(name: str, file: Path) -> None:
    text, why = REFUSED[name]
    file.write_text(text)

    with pytest.raises(BadStrategy, match=r"planted\.py") as caught:
        check_file(file, LIMITS)

    assert why in str(caught.value)


@pytest.mark.parametrize("name", names())
def test_no_shipped_strategy_has_a_fault_and_all_its_paths_were_walked(name: str) -> None:
    verdict = check_file(path_of(name))

    assert verdict.findings == ()
    assert verdict.exhaustive
    assert verdict.paths is not None
    assert "all there are" in str(verdict)


def test_a_check_that_uses_up_its_time_is_no_verdict_but_says_so(file: Path) -> None:
    file.write_text(
        (FOLDER / "migrate_running.py").read_text().replace("migrate_running", "planted")
    )

    verdict = check_file(file, Limits(cpu_s=1))

    assert [f.problem for f in verdict.findings] == ["stalls"]
    assert "1 s of processor time" in verdict.findings[0].message


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(UnknownOrchestration, match="there are adaptive"):
        path_of("nobody")
