"""Worlds in which transports can be tried: the twin, UCX in one process, UCX in two."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .sites import Host
from .worlds import MemoryWorld, World, kv_threads

WORLDS: dict[str, Callable[[], World]] = {
    "memory": MemoryWorld,
    "ucx": World,
    "ucx-processes": lambda: World(processes=True),
    "ucx-cma": lambda: World(processes=True, settings={"ALLOC_PRIO": "mmap"}),
    "ucx-tcp": lambda: World(processes=True, settings={"TLS": "tcp"}),
}


@pytest.fixture(params=["memory", "ucx", "ucx-processes"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The ways in which two transports can be joined; nothing is left running afterwards."""
    yield from make_world(request.param)


@pytest.fixture(params=["memory", "ucx-processes", "ucx-cma", "ucx-tcp"])
def mortal_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """The ways in which one of two can be killed."""
    yield from make_world(request.param)


@pytest.fixture(params=["ucx-processes", "ucx-cma", "ucx-tcp"])
def lane_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every lane that one machine has; `World.lanes` says which puts must take."""
    yield from make_world(request.param)


def make_world(name: str) -> Iterator[World]:
    world = WORLDS[name]()
    try:
        yield world
    finally:
        world.close()
    assert kv_threads() == []


@pytest.fixture(scope="session", autouse=True)
def _hosts_end() -> Iterator[None]:
    yield
    while Host.idle:
        Host.idle.pop().stop()
