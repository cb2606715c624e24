"""What becomes of a fleet's processes that do not come up."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE

import pytest

from actors.supervisor import Child, ChildFailed, ChildNotReady


async def test_a_process_that_says_nothing_is_told_in_words() -> None:
    silent = Child("p0", await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE))

    with pytest.raises(ChildNotReady, match=r"p0 was not ready within 0\.05 s"):
        await silent.ready(within_s=0.05)

    await silent.stop()
    assert silent.process.returncode is not None


async def test_a_process_that_ends_instead_is_told_with_its_status() -> None:
    ended = Child("p0", await asyncio.create_subprocess_exec("false", stdout=PIPE))

    with pytest.raises(ChildFailed, match="p0 ended with status 1"):
        await ended.ready()
