"""What an operator types, against a real broker; and files that are put into service on save."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from actors.cli import main
from actors.operating import parse_ref, parse_share, watch_files
from actors.recordings import RecordingStore
from actors.version_store import VersionStore
from actors.versions import Ref
from bus.memory_buckets import MemoryBuckets
from orchestrations.disaggregated import disaggregated
from orchestrations.registry import FOLDER
from tests.actors.test_recordings import recorded

_NUMBERS = count(1)
GOOD = (FOLDER / "data_parallel.py").read_text().replace("def data_parallel(", "def mine(")
LEAKS = """
from bus.messages import Cancelled, Event
from orchestrations.data_parallel import data_parallel
from orchestrations.machine import Done, Generating, State, Step

def mine(state: State, event: Event) -> Step:
    match state, event:
        case Generating(), Cancelled():
            return Done("cancelled"), []
    return data_parallel(state, event)
"""

Run = Callable[..., Result]


@pytest.fixture
def microserve(nats_url: str, tmp_path: Path) -> Run:
    """``microserve orchestrations ...`` in a namespace of its own, on the session's broker."""
    environment = {
        "MICROSERVE_NATS_URL": nats_url,
        "MICROSERVE_NAMESPACE": f"operating{next(_NUMBERS)}",
        "MICROSERVE_STATE_DIR": str(tmp_path / "state"),
    }

    def run(*arguments: str) -> Result:
        return CliRunner(env=environment).invoke(main, ["orchestrations", *arguments])

    return run


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    return path


def test_a_version_is_loaded_activated_rolled_back_and_remembered(
    microserve: Run, mine: Path
) -> None:
    loaded = microserve("load", str(mine))
    activated = microserve("activate", "mine@1", "--share", "10%", "--default")
    back = microserve("rollback")
    history = microserve("history")

    assert "loaded mine@1" in loaded.output
    assert "passed" in loaded.output
    told = "requests that name no orchestration: mine@1 10%, the rest default@installed"
    assert told in activated.output
    assert "requests that name no orchestration: default@installed" in back.output
    assert [line for line in history.output.splitlines() if "rolled back from mine@1" in line]
    assert [line for line in history.output.splitlines() if "activated for 10%" in line]


def test_what_is_told_of_a_name_that_is_not_installed_is_what_users_will_meet(
    microserve: Run, mine: Path
) -> None:
    microserve("load", str(mine))
    trial = microserve("activate", "mine", "--share", "10%")
    back = microserve("rollback", "mine")
    again = microserve("rollback", "mine")
    installed = microserve("activate", "mine@installed")

    told = "requests for mine: mine@1, all of them: nothing else serves this name"
    assert trial.output.strip() == told
    told = "requests for mine: refused, since no version of mine serves and none is installed"
    assert back.output.strip() == told
    assert "nothing to roll back" in again.output
    assert "no orchestration 'mine'; there are adaptive" in installed.output


def test_a_policy_is_a_version_too_and_may_name_what_serves(
    microserve: Run, mine: Path, tmp_path: Path
) -> None:
    chooser = tmp_path / "chooser.py"
    chooser.write_text("def chooser(request, fleet): return 'mine'")

    unknown = microserve("load", str(chooser))
    microserve("load", str(mine))
    microserve("activate", "mine")
    loaded = microserve("load", str(chooser))
    activated = microserve("activate", "chooser", "--default", "--share", "50%")
    microserve("rollback", "mine")
    gone = microserve("load", str(chooser))

    assert "names_nobody: there is no strategy 'mine'" in unknown.output
    assert "chooser: passed (a policy; 270 questions, chose mine)" in loaded.output
    assert "loaded chooser@1" in loaded.output
    told = "requests that name no orchestration: chooser@1 50%, the rest default@installed"
    assert activated.output.strip() == told
    assert gone.exit_code == 1


def test_a_file_that_is_not_fit_is_refused_with_the_path_to_its_fault(
    microserve: Run, mine: Path
) -> None:
    mine.write_text(LEAKS)

    refused = microserve("load", str(mine))

    assert refused.exit_code == 1
    assert "leak: done, and pages are still held" in refused.output
    assert "2. Cancelled -> Done" in refused.output
    assert microserve("activate", "mine").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("activate mine", "no version mine; there are none: load its file first"),
        ("activate mine@x", "give NAME, NAME@3 or NAME@installed"),
        ("activate data_parallel@installed --share lots", "give 10% or 0.1"),
        ("activate data_parallel@installed --share 0", "more than 0 %, up to 100 %"),
        ("rollback", "nothing to roll back"),
        ("history", "nothing was ever activated"),
        ("replay abc", "no recording of flow 'abc'"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(microserve: Run, arguments: str, told: str) -> None:
    result = microserve(*arguments.split())

    assert result.exit_code in (1, 2)
    assert told in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_a_flow_is_played_again_through_its_own_strategy_or_another(
    microserve: Run, tmp_path: Path, mine: Path
) -> None:
    (tmp_path / "state").mkdir()
    store = RecordingStore(tmp_path / "state" / "flows.db")
    recording = recorded(disaggregated, "abcdef")
    store.write([replace(recording, version=0)])
    store.close()

    own = microserve("replay", "abc")
    other = microserve("replay", "abc", "--with", "data_parallel")
    file = microserve("replay", "abc", "--with", str(mine))

    assert "disaggregated goes the same way: 4 events" in own.output
    assert "data_parallel parts at event 1 of 4" in other.output
    assert f"{mine} parts at event 1 of 4" in file.output


@pytest.mark.parametrize(
    ("text", "ref"), [("a", ("a", None)), ("a@3", ("a", 3)), ("a@installed", ("a", 0))]
)
def test_a_version_is_named_in_three_ways(text: str, ref: tuple[str, int | None]) -> None:
    assert parse_ref(text) == ref


def test_a_share_is_given_in_two_ways() -> None:
    assert (parse_share("10%"), parse_share("0.1"), parse_share("100%")) == (0.1, 0.1, 1.0)
    with pytest.raises(click.UsageError):
        parse_share("a tenth")


async def test_a_watched_file_serves_at_once_and_again_on_every_save(mine: Path) -> None:
    told: list[str] = []
    versions = await VersionStore.open(MemoryBuckets(), "ms")
    watching = asyncio.create_task(watch_files(versions, [mine], told.append))
    try:
        await _until(lambda: len(told) == 1)
        first = await versions.active("mine")

        _save(mine, LEAKS)
        await _until(lambda: len(told) == 2)
        second = await versions.active("mine")

        _save(mine, GOOD + "# better\n")
        await _until(lambda: len(told) == 3)
        third = await versions.active("mine")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    assert first is not None
    assert first.candidate == Ref("mine", 1)
    assert second == first
    assert "is not put into service: " in told[1]
    assert "leak" in told[1]
    assert third is not None
    assert third.candidate == Ref("mine", 2)


async def test_a_watched_file_that_cannot_be_seen_keeps_nobody_from_the_others(mine: Path) -> None:
    unseen = mine.with_name("x" * 300 + ".py")  # to ask for it is an error of the system's
    told: list[str] = []
    versions = await VersionStore.open(MemoryBuckets(), "ms")
    watching = asyncio.create_task(watch_files(versions, [unseen, mine], told.append))
    try:
        await _until(lambda: bool(told) or watching.done())
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    assert len(told) == 1
    assert str(mine) in told[0]


async def test_a_watched_policy_serves_once_the_strategy_does_that_it_names(mine: Path) -> None:
    chooser = mine.with_name("chooser.py")
    chooser.write_text("def chooser(request, fleet): return 'mine'")
    told: list[str] = []
    versions = await VersionStore.open(MemoryBuckets(), "ms")
    watching = asyncio.create_task(watch_files(versions, [chooser, mine], told.append))
    try:
        await _until(lambda: len(told) == 3)
        first = await versions.active("chooser")

        _save(chooser, "def chooser(request, fleet): return 'yours'")
        await _until(lambda: len(told) == 4)
        second = await versions.active("chooser")

        _save(chooser, "def chooser(request, fleet): return 'data_parallel'")
        await _until(lambda: len(told) == 5)
        third = await versions.active("chooser")
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    assert "names_nobody: there is no strategy 'mine'" in told[0]
    assert first is not None
    assert first.candidate == Ref("chooser", 1)
    assert "names_nobody: there is no strategy 'yours'" in told[3]
    assert second == first
    assert third is not None
    assert third.candidate == Ref("chooser", 2)


def _save(path: Path, text: str) -> None:
    """A later time than before, also where the clock of the disk is coarse."""
    before = path.stat().st_mtime_ns
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
