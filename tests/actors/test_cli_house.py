"""What holds for every command of `microserve`: examples, completion, colours, exit statuses."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from actors.cli import main
from actors.cli_parts import INTERRUPTED, run
from actors.diagnosis import Finding, ok, show
from actors.progress import bar
from observability.flow import FlowTrace
from observability.store import TraceStore


def every_command(group: click.Group = main, path: str = "microserve") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def completed(*words: str) -> list[str]:
    *before, last = words
    found = BashComplete(main, {}, "microserve", "_X").get_completions(before, last)
    return [item.value for item in found]


@pytest.mark.parametrize("path", list(every_command()))
def test_every_command_shows_examples_of_itself(path: str) -> None:
    words = path.split()[1:]

    shown = CliRunner().invoke(main, [*words, "--help"]).output

    examples = shown.partition("Examples:")[2].partition("Options:")[0]
    assert f"\n    {path}" in examples
    assert all(len(line) <= 100 for line in shown.splitlines())


def test_words_are_completed_from_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSERVE_STATE_DIR", str(tmp_path))
    trace = FlowTrace("7c49" * 8, None, 1.0)
    trace.ended("finished", 2.0)
    store = TraceStore(tmp_path / "traces.db")
    store.write(trace.drain())
    store.close()

    assert {"demo", "doctor"} <= set(completed("d"))
    assert completed("orchestrations", "show", "disa") == ["disaggregated"]
    assert completed("generate", "x", "--orchestration", "data") == ["data_parallel"]
    assert completed("trace", "7c") == ["7c49" * 8]
    assert "--slowest" in completed("trace", "--s")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_ask_for_completions(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell]).output

    assert "_MICROSERVE_COMPLETE" in script
    assert shell in script


def test_strategies_are_listed_for_programs_too() -> None:
    lines = CliRunner().invoke(main, ["orchestrations", "list", "--json"]).output.splitlines()

    told = {line["name"]: line["what"] for line in map(json.loads, lines)}
    assert told["data_parallel"].startswith("The whole request on one engine")


async def one_finding() -> AsyncIterator[Finding]:
    yield ok("broker", "answers")


@pytest.mark.parametrize(("variable", "is_coloured"), [("IGNORED", True), ("NO_COLOR", False)])
def test_no_colour_where_nobody_wants_it(
    variable: str,
    is_coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv(variable, "1")

    asyncio.run(show(one_finding(), as_json=False))

    assert ("\x1b[32m" in capsys.readouterr().out) == is_coloured


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["orchestrations", "list"], 0),
        (["trace", "abc"], 1),
        (["orchestrations", "check", "/nowhere.py"], 1),
        (["move", "abc", "e0"], 2),
        (["generate"], 2),
        (["no-such-command"], 2),
        (["engine", "--tier", "lots"], 2),
    ],
)
def test_exit_statuses_are_those_of_the_documentation(
    arguments: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROSERVE_STATE_DIR", str(tmp_path))

    assert CliRunner().invoke(main, arguments).exit_code == status


async def broken_off() -> None:
    signal.raise_signal(signal.SIGINT)
    await asyncio.Event().wait()


def test_what_was_broken_off_ends_as_shells_expect_and_an_actor_ends_well() -> None:
    with pytest.raises(click.exceptions.Exit) as ended:
        run(broken_off(), interrupted=INTERRUPTED)

    assert ended.value.exit_code == 130
    run(broken_off())


def test_a_bar_is_drawn_on_a_terminal_and_is_gone_at_the_end() -> None:
    script = "from actors.progress import bar\nwith bar('converting') as r: r(1, 2)"
    ours, theirs = pty.openpty()

    subprocess.run([sys.executable, "-c", script], stderr=theirs, timeout=30, check=True)
    os.close(theirs)
    drawn = os.read(ours, 65_536).decode()
    os.close(ours)

    assert "converting" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")  # the line is erased


def test_a_bar_is_drawn_for_nobody_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bar("converting") as report:
        report(1, 2)

    assert capsys.readouterr().err == ""
