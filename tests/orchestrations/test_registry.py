"""Strategies are found by their files, and a bad file says what is wrong with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bus.messages import Submitted
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Idle, Preparing
from orchestrations.registry import (
    FOLDER,
    UnknownOrchestration,
    load,
    load_file,
    names,
    policy_names,
    require,
    strategies,
)
from orchestrations.source import TOOLS, BadStrategy, parse, require_pure

from .flows import FLEET, REQUEST

MINE = """
from bus.messages import Event
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import State, Step

def mine(state: State, event: Event) -> Step:
    return disaggregated(state, event)
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def refused(path: Path, text: str) -> str:
    """The message that says why a file of this text is not loaded."""
    path.write_text(text)
    with pytest.raises(BadStrategy) as caught:
        load_file(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_the_folder_is_listed_by_what_its_files_define() -> None:
    assert {"data_parallel", "disaggregated"} <= set(names())
    assert not {"machine", "mermaid", "explore", "check", "registry"} & set(names())


def test_every_listed_strategy_loads() -> None:
    found = strategies()

    assert tuple(found) == names()
    assert found["data_parallel"] is data_parallel
    assert load("disaggregated") is disaggregated


def test_a_new_file_in_a_folder_is_a_new_strategy(mine: Path) -> None:
    mine.write_text(MINE)
    (mine.parent / "broken.py").write_text("def broken(")
    (mine.parent / "notes.py").write_text("def other(state, event): ...")

    assert names(mine.parent) == ("broken", "mine")


LIST_A_COPY = """
from orchestrations.registry import load, strategies
from orchestrations.source import TOOLS, BadStrategy, parse, require_pure
print(*strategies())
for name in ("broken", "late"):
    try:
        load(name)
    except BadStrategy as error:
        print(error.line, error.why)
"""


def test_a_bad_file_in_our_folder_takes_nobody_else_away(tmp_path: Path) -> None:
    for package in ("bus", "orchestrations"):
        shutil.copytree(FOLDER.parent / package, tmp_path / package)
    folder = tmp_path / "orchestrations"
    (folder / "mine.py").write_text(MINE)
    (folder / "broken.py").write_text("def broken(")
    (folder / "late.py").write_text("import time\ndef late(state, event): ...")

    command = [sys.executable, "-c", LIST_A_COPY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    listed, broken, late = done.stdout.splitlines()
    assert set(listed.split()) == {*names(), "mine"}
    assert broken == "1 syntax error: '(' was never closed"
    assert late.startswith("1 a strategy may not import time;")


@pytest.mark.parametrize("name", ["nobody", "machine", "../setup", "", "x" * 1000])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownOrchestration, match="data_parallel, disaggregated") as caught:
        load(name)

    assert len(str(caught.value)) < 400


def test_a_file_is_loaded_as_the_function_of_its_name(mine: Path) -> None:
    mine.write_text(MINE)

    strategy = load_file(mine)

    state, _ = strategy(Idle(), Submitted(REQUEST, FLEET))
    assert isinstance(state, Preparing)


def test_a_copy_of_one_of_ours_works_anywhere(tmp_path: Path) -> None:
    copy = tmp_path / "disaggregated.py"
    copy.write_text((FOLDER / "disaggregated.py").read_text())

    strategy = load_file(copy)

    submitted = Submitted(REQUEST, FLEET)
    assert strategy is not disaggregated
    assert strategy(Idle(), submitted) == disaggregated(Idle(), submitted)


def test_a_file_that_has_changed_is_another_strategy_and_the_old_one_stays(mine: Path) -> None:
    mine.write_text(MINE)
    old = load_file(mine)
    mine.write_text(MINE.replace("disaggregated", "data_parallel"))

    new = load_file(mine)

    submitted = Submitted(REQUEST, FLEET)
    assert new(Idle(), submitted) == data_parallel(Idle(), submitted)
    assert old(Idle(), submitted) == disaggregated(Idle(), submitted)


def test_the_same_file_is_the_same_strategy(mine: Path) -> None:
    mine.write_text(MINE)

    assert load_file(mine) is load_file(mine)


def test_a_syntax_error_is_told_with_its_line(mine: Path) -> None:
    assert refused(mine, "\n\ndef mine(state, event:\n").startswith(":3: syntax error")


@pytest.mark.parametrize("line", [f"x = {'-' * 100_000}1", f"x = a{'.b' * 100_000}"])
def test_what_python_cannot_read_for_its_depth_is_refused(mine: Path, line: str) -> None:
    assert refused(mine, f"{MINE}\n{line}\n").startswith(": an expression is nested too deep")


def test_a_file_without_its_function_is_told_what_it_must_define(mine: Path) -> None:
    assert "must define mine(state, event)" in refused(mine, "def other(state, event): ...")
    assert "must define mine(state, event)" in refused(mine, "def mine(state): ...")


def test_a_missing_file_cannot_be_read(mine: Path) -> None:
    with pytest.raises(BadStrategy, match="cannot be read"):
        load_file(mine)


def test_a_file_that_is_not_text_cannot_be_read(mine: Path) -> None:
    mine.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(BadStrategy, match="cannot be read"):
        load_file(mine)


def test_a_file_that_is_not_text_is_no_policy_and_takes_no_policy_away(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_bytes(b"\xff\xfe\x00")
    shutil.copy(FOLDER / "policy.py", tmp_path)

    assert policy_names(tmp_path) == ("policy",)
    assert names(tmp_path) == ("broken",)


def test_a_file_that_raises_is_told_why_and_leaves_nothing(mine: Path) -> None:
    why = refused(mine, MINE + "\n1 / 0\n")

    assert why == ": ZeroDivisionError: division by zero"
    assert refused(mine, MINE + "\n1 / 0\n") == why


def test_a_name_that_is_no_function_in_the_end_is_refused(mine: Path) -> None:
    assert "is not a function" in refused(mine, MINE + "\nmine = None\n")
    assert "is not a function" in refused(mine, MINE + "\ndel mine\n")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("import os", "os"),
        ("import time", "time"),
        ("from random import choice", "random"),
        ("import asyncio, math", "asyncio"),
        ("from bus.nats import NatsBus", "bus.nats"),
        ("from bus import memory", "bus.memory"),
        ("from engine.pages import Pages", "engine.pages"),
        ("from ..bus import nats", "..bus"),
        ("def lazily():\n    import socket", "socket"),
    ],
)
def test_an_import_that_reaches_further_is_refused_before_anything_runs(
    mine: Path, line: str, named: str
) -> None:
    why = refused(mine, f"raise SystemExit\n{line}\n{MINE}")

    assert f"may not import {named};" in why
    assert "bus.messages" in why


@pytest.mark.parametrize(
    "line",
    [
        "from __future__ import annotations",
        "import math",
        "from bus import messages, fleet",
        "import bus.tokens",
        "from msgspec import Struct, structs",
        "from collections.abc import Sequence",
        "from typing import TypeAlias",
        "from orchestrations import machine",
        "from .machine import Job",
        "from . import machine",
    ],
)
def test_the_vocabulary_may_be_imported(mine: Path, line: str) -> None:
    mine.write_text(line + MINE)

    assert callable(load_file(mine))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x = open('f')", "open is not allowed"),
        ("def f():\n    global n", "carry n in the state"),
        ("async def f(): ...", "no async"),
        ("print(1)", "print is not allowed"),
    ],
)
def test_what_reaches_outside_of_the_arguments_is_refused(mine: Path, line: str, why: str) -> None:
    assert why in refused(mine, f"{line}\n{MINE}")


def test_a_strategy_may_have_states_of_its_own_in_its_file(mine: Path) -> None:
    mine.write_text(
        "from __future__ import annotations\n"
        "from msgspec import Struct\n"
        "from orchestrations.machine import Job\n"
        "class Probing(Struct, frozen=True, tag=True):\n"
        "    job: Job\n"
        "    num_tries: int = 0\n" + MINE.replace("state: State", "state: State | Probing")
    )

    strategy = load_file(mine)

    assert "Probing" in strategy.__annotations__["state"]


@pytest.mark.parametrize("name", [*names(), *policy_names()])
def test_requests_can_be_served_by_strategies_and_policies(name: str) -> None:
    require(name)

    with pytest.raises(UnknownOrchestration, match=f"{policy_names()[-1]}. To add one"):
        require("nobody")


@pytest.mark.parametrize(
    "line",
    [
        "from orchestrations.registry import sys",
        "from orchestrations import sandbox",
        "import orchestrations.sandbox",
        "from .registry import sys",
        "from . import registry",
    ],
)
def test_the_tools_hand_nothing_on(line: str, mine: Path) -> None:
    mine.write_text(f"{line}\n{MINE}")

    with pytest.raises(BadStrategy, match=r"may not import orchestrations\.(registry|sandbox);"):
        load_file(mine)


def test_whatever_of_the_folder_reaches_beyond_the_vocabulary_is_a_tool() -> None:
    reaching = {path.stem for path in FOLDER.glob("*.py") if not _keeps_to_the_rules(path)}

    assert reaching == TOOLS


def _keeps_to_the_rules(path: Path) -> bool:
    try:
        require_pure(str(path), parse(str(path), path.read_text()))
    except BadStrategy:
        return False
    return True
