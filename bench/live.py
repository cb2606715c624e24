"""What watching costs: 100 engines and 1,000 flows, seen by nobody, by one reader, by one page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import msgspec
import psutil
from msgspec import Struct

from bus.server import EmbeddedServer

from .crew import Crew, cpu_s
from .parties.conversation import Ready
from .parties.fleet import ActorConfig
from .parties.live_fleet import Crowd
from .parties.live_gateway import Serving
from .progress import steps
from .report import AtMost, Figure, Result

TARGETS: Final = {"router_cpu_watched_vs_not": AtMost(1.1)}
BROWSERS: Final = ("chromium", "chromium-headless-shell", "google-chrome")


class Plan(Struct, frozen=True):
    num_engines: int = 100
    num_flows: int = 1000
    warm_s: float = 8.0
    seconds: float = 12.0
    """Of each way to look."""
    with_page: bool = True


class Pids(Struct, frozen=True):
    router: int
    gateway: int


class Shares(Struct, frozen=True):
    """CPU seconds for each second."""

    router: float
    gateway: float


class NotWatched(Exception):
    """Nobody looked while it was measured what looking costs."""


def run() -> Result:
    return asyncio.run(measure(Plan()))


async def measure(plan: Plan) -> Result:
    figures: dict[str, Figure] = {"engines": plan.num_engines, "flows": plan.num_flows}
    async with EmbeddedServer() as server, Crew() as crew:
        actor = ActorConfig(server.url, "")
        router = await crew.start("live_router", actor)
        fleet = await crew.start("live_fleet", Crowd(server.url, plan.num_engines, plan.num_flows))
        gateway = await crew.start("live_gateway", actor)
        url = msgspec.json.decode(gateway.greeting, type=Serving).url
        pids = Pids(router.pid, gateway.pid)
        await fleet.ask("begin", Ready)
        await asyncio.sleep(plan.warm_s)
        told: list[int] = []
        with steps(2, "readers") as step:
            nobody = await _shares(pids, plan.seconds, asyncio.sleep)
            step()
            reader = await _shares(pids, plan.seconds, lambda s: read_stream(url, s, told))
        figures |= {
            "router_cpu_unwatched": nobody.router,
            "router_cpu_watched": reader.router,
            "gateway_cpu_unwatched": nobody.gateway,
            "gateway_cpu_watched": reader.gateway,
            "stream_kb_per_s": sum(told) / plan.seconds / 1e3,
            "messages_per_s": len(told) / plan.seconds,
        }
        figures |= await _page(url, plan)
    ratio = reader.router / nobody.router
    return Result("live", {"router_cpu_watched_vs_not": ratio}, figures, dict(TARGETS))


async def _shares(
    pids: Pids, seconds: float, during: Callable[[float], Awaitable[object]]
) -> Shares:
    begun_s, router_s, gateway_s = time.monotonic(), cpu_s(pids.router), cpu_s(pids.gateway)
    await during(seconds)
    took_s = time.monotonic() - begun_s
    return Shares(
        (cpu_s(pids.router) - router_s) / took_s, (cpu_s(pids.gateway) - gateway_s) / took_s
    )


async def read_stream(url: str, seconds: float, told: list[int]) -> None:
    """Read the stream; ``told`` gets the size of every message.

    Raises:
        NotWatched: there is no stream, or it ended before its time.
    """
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(read_bufsize=1 << 22) as http,
            http.get(f"{url}/live/events") as response,
        ):
            async for line in response.content:
                if line.startswith(b"data: "):
                    told.append(len(line))  # noqa: PERF401 - what was told is kept when time is up
            raise NotWatched(f"{response.url} answered {response.status}, and has ended")


async def _page(url: str, plan: Plan) -> dict[str, Figure]:
    """What a browser uses that shows the page, all of its processes together."""
    binary = os.environ.get("CHROMIUM_BIN") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if binary is None or not plan.with_page:
        return {"page": "not measured: no Chromium"}
    async with _browser(binary, f"{url}/live") as process:
        await asyncio.sleep(plan.warm_s)
        begun_s, used_s = time.monotonic(), _family_cpu_s(process)
        await asyncio.sleep(plan.seconds)
        share = (_family_cpu_s(process) - used_s) / (time.monotonic() - begun_s)
        return {"page_cpu": share, "page_memory_mb": _family_mb(process)}


@asynccontextmanager
async def _browser(binary: str, url: str) -> AsyncIterator[psutil.Process]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,720")
        process = await asyncio.create_subprocess_exec(
            *(binary, f"--user-data-dir={profile}", *options, "--remote-debugging-port=0", url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield psutil.Process(process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _family_cpu_s(process: psutil.Process) -> float:
    return sum(cpu_s(member.pid) for member in _family(process))


def _family_mb(process: psutil.Process) -> float:
    return sum(member.memory_info().rss for member in _family(process)) / 1e6
