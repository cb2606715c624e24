"""A local fleet: a broker, a router and engines as child processes that end when we do."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from msgspec import Struct

from bus.fleet import Role
from bus.server import EmbeddedServer
from orchestrations import registry

from .children import Child, Children
from .opening import open_files
from .progress import loading_bar
from .settings import Settings


class FleetOptions(Struct, frozen=True):
    """What `microserve up` starts."""

    engines: tuple[tuple[str, Role], ...]
    """Names and roles."""
    orchestration: str = "disaggregated"
    model: str | None = None
    engine_arguments: tuple[str, ...] = ()
    """Handed on to every engine."""
    router_arguments: tuple[str, ...] = ()
    http_port: int | None = None
    """Of a gateway; None starts none."""


def roles(count: int) -> tuple[tuple[str, Role], ...]:
    """Names and roles for ``count`` engines: one alone does both; of several, half prefill."""
    if count == 1:
        return (("e0", "both"),)
    prefill: tuple[tuple[str, Role], ...] = tuple((f"p{i}", "prefill") for i in range(count // 2))
    return (*prefill, *((f"d{i}", "decode") for i in range(count - count // 2)))


def numbered(given: Sequence[Role]) -> tuple[tuple[str, Role], ...]:
    """Names for engines whose roles were chosen."""
    return tuple((f"e{i}", role) for i, role in enumerate(given))


class LocalFleet(Struct, frozen=True):
    """A fleet that is up."""

    url: str
    children: Children
    router: Child
    engines: tuple[Child, ...]
    gateway: Child | None = None


@asynccontextmanager
async def broker(settings: Settings, url: str | None) -> AsyncIterator[str]:
    """The URL of the broker: the one given, or that of a server of our own."""
    if url:
        yield url
        return
    async with EmbeddedServer() as server:
        yield server.url


@asynccontextmanager
async def local_fleet(
    settings: Settings,
    options: FleetOptions,
    url: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[LocalFleet]:
    """A fleet for as long as the block lasts; ``say`` hears how the start goes.

    The orchestration and the model are opened here first, so that what is wrong with them is told
    once and before anything is started, and so that the model is converted once.

    Raises:
        OrchestrationError: there is no such orchestration, or it does not load.
        ModelError: there is no such model, or it is of a kind that is not computed here.
        ChildFailed: a process ended before it was ready.
        ChildNotReady: one said nothing for too long.
    """
    registry.require(options.orchestration)
    async with AsyncExitStack() as stack:
        say("opening the model (a GGUF file is converted the first time)")
        await asyncio.to_thread(open_files, options.model, settings.cache_dir)
        say("starting the broker" if not url else "using the broker that was given")
        at = await stack.enter_async_context(broker(settings, url))
        children = await stack.enter_async_context(Children(_environment(settings, at)))
        say(f"starting a router and {len(options.engines)} engines: they load the model")
        engines = [await _start_engine(children, options, *who) for who in options.engines]
        router = await _start_router(children, options)
        gateway = await _start_gateway(children, options)
        for child in (*engines, router, *([gateway] if gateway else [])):
            with loading_bar(child.name) as report:
                await child.ready(progress=report)
            say(f"{child.name} is ready")
        stack.enter_context(_published(settings, at))
        yield LocalFleet(at, children, router, tuple(engines), gateway)


async def _start_engine(children: Children, options: FleetOptions, name: str, role: Role) -> Child:
    threads = max(1, (os.cpu_count() or 1) // len(options.engines))
    model = ("--model", options.model) if options.model else ()
    given = ("--name", name, "--role", role, "--threads", str(threads), *model)
    return await children.start(name, ("engine", *given, *options.engine_arguments))


async def _start_router(children: Children, options: FleetOptions) -> Child:
    model = ("--model", options.model) if options.model else ()
    given = ("--name", "r0", "--orchestration", options.orchestration, *model)
    return await children.start("r0", ("router", *given, *options.router_arguments))


async def _start_gateway(children: Children, options: FleetOptions) -> Child | None:
    if options.http_port is None:
        return None
    model = ("--model", options.model) if options.model else ()
    given = ("--name", "g0", "--port", str(options.http_port), *model)
    return await children.start("g0", ("gateway", *given))


def _environment(settings: Settings, url: str) -> dict[str, str]:
    """The broker's URL holds a secret: it travels in the environment, not on a command line."""
    return {
        **os.environ,
        "MICROSERVE_NATS_URL": url,
        "MICROSERVE_NAMESPACE": settings.namespace,
        "MICROSERVE_STATE_DIR": str(settings.state_dir),
        "MICROSERVE_CACHE_DIR": str(settings.cache_dir),
        "MICROSERVE_LOG_FORMAT": settings.logs.style,
        "MICROSERVE_LOG_LEVEL": settings.logs.level,
    }


class Running(Struct, frozen=True):
    """Where the local fleet is, for the other commands on this machine."""

    url: str
    pid: int


@contextlib.contextmanager
def _published(settings: Settings, url: str) -> Iterator[None]:
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    path = settings.running
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(Running(url, os.getpid())))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_running(settings: Settings) -> str | None:
    """The URL of the fleet that `microserve up` runs here, if one does."""
    try:
        running = msgspec.json.decode(settings.running.read_bytes(), type=Running)
        os.kill(running.pid, 0)
    except (OSError, msgspec.DecodeError):
        return None
    return running.url
