"""``python -m orchestrations``: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrations.__main__ import main

LEAKING = """
from bus.messages import Cancelled
from orchestrations.data_parallel import data_parallel
from orchestrations.machine import Done, Generating

def leaking(state, event):
    match state, event:
        case Generating(), Cancelled():
            return Done("cancelled"), []
    return data_parallel(state, event)
"""


def test_a_named_strategy_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["data_parallel"])

    assert status == 0
    assert capsys.readouterr().out.startswith("data_parallel: passed (3 states, ")


def test_a_file_that_is_not_fit_ends_in_one_and_is_told_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leaking.py"
    path.write_text(LEAKING)

    status = main([str(path)])

    assert status == 1
    printed = capsys.readouterr().out
    assert printed.startswith("leaking: not fit to be loaded")
    assert "leak: done, and pages are still held by x0 (StartGenerate)" in printed
    assert "  2. Cancelled -> Done" in printed


def test_a_strategy_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--draw", "data_parallel"])

    assert status == 0
    assert capsys.readouterr().out.startswith("stateDiagram-v2\n")


def test_an_unknown_name_ends_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["nobody"])

    assert status == 1
    assert "there are adaptive, balanced, data_parallel, disaggregated" in capsys.readouterr().err
