"""What docs/client.md tells people to type is typed here, as it stands there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from bus.interface import NoResponders, RequestTimedOut
from bus.nats import NatsBus
from bus.server import EmbeddedServer
from tests.bus.parties import reach
from tests.system.on_nats import MODEL, PATIENCE_S, Pace, Served, served

CLIENTS = Path(__file__).parents[2] / "docs" / "client.md"
with_nats = pytest.mark.skipif(
    shutil.which("nats") is None,
    reason="no 'nats' on the path: go install github.com/nats-io/natscli/nats@v0.5.0",
)


def blocks(heading: str) -> list[str]:
    """The shell scripts under a heading of the page."""
    section = CLIENTS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


class Shell:
    """A script that runs, and what it prints as JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        said: dict[str, Any] = json.loads(line)
        return said

    async def rest(self) -> str:
        """What else it prints. It has to end well."""
        printed, _ = await asyncio.wait_for(self._process.communicate(), 2 * PATIENCE_S)
        assert self._process.returncode == 0
        return printed.decode()


@asynccontextmanager
async def typed(url: str, script: str, **given: str) -> AsyncIterator[Shell]:
    at = urlsplit(url)
    here = {"TOKEN": at.username, "HOST": at.hostname, "PORT": at.port, "MODEL": MODEL, **given}
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        env={**os.environ, "NATS_URL": url, **{name: str(value) for name, value in here.items()}},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Shell(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def system(pace: Pace | None = None) -> AsyncIterator[tuple[str, Served]]:
    async with EmbeddedServer() as server, served(server.url, pace) as it:
        yield server.url, it


async def listened_to(bus: NatsBus, subject: str) -> None:
    """Returns when somebody has heard a first message there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await bus.request(subject, b'{"is": "there"}', timeout_s=0.1)
            except NoResponders:
                await asyncio.sleep(0.05)
            except RequestTimedOut:
                return


async def cancelled(url: str, script: str, flow: str, it: Served) -> None:
    """Types what cancels the flow; returns when its engine was told."""
    orders = it.engines_bus.statistics().received
    async with typed(url, script, FLOW=flow) as shell:
        await shell.rest()
    await reach(lambda: it.engines_bus.statistics().received > orders)


def assert_an_answer(messages: Sequence[dict[str, Any]], num_tokens: int) -> None:
    first, *middle, last = messages
    assert (first["type"], last["type"], last["reason"]) == ("accepted", "finished", "length")
    assert {m["type"] for m in middle} == {"tokens"}
    assert sum(len(m["tokens"]) for m in middle) == last["offset"] == num_tokens


def read(lines: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


async def test_a_shell_alone_asks_and_reads_an_answer() -> None:
    async with system() as (url, _), typed(url, blocks("No client at all")[0]) as shell:
        messages = read(await shell.rest())

    assert_an_answer(messages, 16)


async def test_a_shell_alone_cancels() -> None:
    ask, cancel = blocks("No client at all")
    pace = Pace(steps=2)
    async with system(pace) as (url, it), typed(url, ask) as shell:
        flow = (await shell.said())["flow"]

        await cancelled(url, cancel, flow, it)
        pace.go()
        *_, last = read(await shell.rest())

    assert (last["type"], last["reason"]) == ("finished", "cancelled")
    assert last["offset"] < 16


@with_nats
@pytest.mark.timeout(60)
async def test_the_nats_command_lists_the_fleet_and_reads_an_answer() -> None:
    script, _ = blocks("The `nats` command")
    async with system() as (url, _), typed(url, f"set -e\n{script}") as shell:
        printed = await shell.rest()

    assert f"e0: both, {MODEL}" in printed
    assert_an_answer(read(printed), 16)


@with_nats
async def test_the_nats_command_listens_asks_and_cancels() -> None:
    _, script = blocks("The `nats` command")
    listen, ask, cancel = script.splitlines()
    pace = Pace(steps=2)
    async with system(pace) as (url, it), typed(url, listen) as listener:
        await listened_to(it.engines_bus, "my.answers")
        assert await listener.said() == {"is": "there"}
        async with typed(url, ask) as asker:
            await asker.rest()
        flow = (await listener.said())["flow"]
        await cancelled(url, cancel, flow, it)
        pace.go()
        while (last := await listener.said())["type"] != "finished":
            pass

    assert last["reason"] == "cancelled"
