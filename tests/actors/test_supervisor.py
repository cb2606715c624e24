"""What becomes of a fleet's processes that do not come up."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import pytest

from actors.children import Child, ChildFailed, ChildNotReady
from actors.first_words import loaded, loading


async def test_a_process_that_says_nothing_is_told_in_words() -> None:
    silent = Child("p0", await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))

    with pytest.raises(ChildNotReady, match=r"p0 was not ready, and said nothing for 0\.05 s"):
        await silent.ready(within_s=0.05)

    await silent.stop()
    assert silent.process.returncode is not None


async def test_a_process_that_ends_instead_is_told_with_its_status() -> None:
    ended = Child("p0", await asyncio.create_subprocess_exec("false", stdout=PIPE))

    with pytest.raises(ChildFailed, match="p0 ended with status 1"):
        await ended.ready()


async def test_what_a_process_says_of_its_weights_is_heard_until_it_is_ready() -> None:
    said = r"printf 'loading 1 4\nloading 3 4\nready p0\nloading 4 4\n'"
    told: list[tuple[int, int]] = []
    child = Child("p0", await asyncio.create_subprocess_shell(said, stdout=PIPE))

    await child.ready(progress=lambda done, of: told.append((done, of)))

    assert told == [(1, 4), (3, 4)]
    await child.process.communicate()


def test_an_engine_tells_each_percent_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = loading()

    for done in range(1001):
        report(done, 1000)

    lines = capsys.readouterr().out.encode().splitlines()
    assert [loaded(line) for line in lines] == [(10 * n, 1000) for n in range(101)]


@pytest.mark.parametrize("line", [b"ready p0", b"loading", b"loading x 3", b"", b"\xff\xfe 1 2"])
def test_any_other_line_says_nothing_of_weights(line: bytes) -> None:
    assert loaded(line) is None
