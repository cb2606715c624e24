"""What all tests share: coroutine tests, and one real broker for those that need it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from bus.server import EmbeddedServer

# A machine that others use, too, is slow at times: no reason to fail.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

TURNS_TO_END = 20
"""Turns of the event loop that cancelled tasks get to end after a test."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests, each in an event loop of its own; a task left behind fails it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    asyncio.run(_leaving_nothing(lambda: pyfuncitem.obj(**arguments)))
    return True


async def _leaving_nothing(test: Callable[[], Awaitable[None]]) -> None:
    await test()
    left = await _tasks_left()
    assert not left, f"the test left tasks behind: {left}"


async def _tasks_left() -> set[asyncio.Task[object]]:
    for _ in range(TURNS_TO_END):
        await asyncio.sleep(0)
        if len(asyncio.all_tasks()) == 1:
            break
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """A real broker for the whole session; choose subjects that no other test uses."""
    with EmbeddedServer() as server:
        yield server.url
