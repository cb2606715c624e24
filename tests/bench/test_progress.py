"""The bar of a benchmark: for people at a terminal, and for nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from bench.progress import each, rounds, rounds_for, steps

LOOP = "for _ in rounds(3, 'turns'): pass"


def drawn(script: str) -> str:
    """What it leaves on a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    imports = "from bench.progress import hidden, rounds\n"
    command = [sys.executable, "-c", imports + script]
    subprocess.run(command, stderr=theirs, timeout=30, check=True)
    os.write(theirs, b".")
    os.close(theirs)
    found = os.read(ours, 65_536).decode()
    os.close(ours)
    return found


def test_a_person_sees_each_step() -> None:
    found = drawn(LOOP)

    assert all(f"{done}/3" in found for done in range(4))
    assert "turns" in found


def test_where_the_result_is_for_a_program_nobody_sees_any() -> None:
    assert drawn(f"with hidden():\n  {LOOP}") == "."


def test_in_a_pipe_there_is_none_and_everything_is_gone_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with steps(1, "steps") as step:
        step()

    assert list(rounds(3)) == [0, 1, 2]
    assert list(each("ab", "letters")) == ["a", "b"]
    assert capsys.readouterr().err == ""


def test_hiding_ends_with_its_block() -> None:
    found = drawn(f"with hidden(): pass\n{LOOP}")

    assert "3/3" in found


def test_where_there_is_no_time_one_round_is_made_and_no_more() -> None:
    assert list(rounds_for(0.0)) == [0]
    assert next(rounds_for(60.0)) == 0
