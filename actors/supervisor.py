"""A local fleet: a broker, a router and engines as child processes that end when we do.

Every child holds a pipe from us as its standard input: when we are gone, however we went, it reads
the end of it and leaves in good order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from bus.fleet import Role
from bus.server import EmbeddedServer
from engine.model_files import open_model
from orchestrations import registry

from .progress import bar
from .settings import Settings

logger = logging.getLogger("microserve.supervisor")

READY_WITHIN_S = 180.0
"""Loading a model from a cold disk and converting it takes most of this."""
STOP_WITHIN_S = 10.0


class ChildFailed(Exception):
    """A process of the fleet ended by itself."""

    def __init__(self, name: str, code: int | None) -> None:
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        super().__init__(f"{name} ended {how}: its last words are above")
        self.name, self.code = name, code


class ChildNotReady(Exception):
    """A process of the fleet took too long to start."""

    def __init__(self, name: str, within_s: float) -> None:
        super().__init__(f"{name} was not ready within {within_s:g} s: is the machine overloaded?")
        self.name, self.within_s = name, within_s


class Child:
    """One process of the fleet."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name, self.process = name, process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Returns when the child says so.

        Raises:
            ChildFailed: it ended instead.
            ChildNotReady: it took too long.
        """
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise ChildNotReady(self.name, within_s) from None
        if not line:
            raise ChildFailed(self.name, await self.process.wait())

    async def stop(self) -> None:
        """Ask, wait, insist. Calling it again does nothing."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self.process.wait()
            except TimeoutError:
                logger.warning("%s did not stop in %g s: killed", self.name, STOP_WITHIN_S)
                self.process.kill()
                await self.process.wait()


class Children:
    """The processes of one fleet; leaving the block asks them all to stop, in the order in which
    they were started, and returns when they have."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.shield(asyncio.gather(*(child.stop() for child in self._children)))

    async def start(self, name: str, arguments: Sequence[str]) -> Child:
        """Start ``microserve ARGUMENTS`` with a lifeline to us."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "actors",
            *arguments,
            "--lifeline",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for us: children are told in good order
        )
        child = Child(name, process)
        self._children.append(child)
        return child

    async def first_to_end(self) -> Child:
        """Waits until one of them ends by itself."""
        waits = {asyncio.ensure_future(c.process.wait()): c for c in self._children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    def forget(self, child: Child) -> None:
        self._children.remove(child)


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
        ChildNotReady: one took too long.
    """
    registry.require(options.orchestration)
    async with AsyncExitStack() as stack:
        say("opening the model (a GGUF file is converted the first time)")
        with bar("converting") as report:
            work = partial(open_model, cache_dir=settings.cache_dir, progress=report)
            await asyncio.to_thread(work, options.model)
        say("starting the broker" if not url else "using the broker that was given")
        at = await stack.enter_async_context(broker(settings, url))
        children = await stack.enter_async_context(Children(_environment(settings, at)))
        say(f"starting a router and {len(options.engines)} engines: they load the model")
        engines = [await _start_engine(children, options, *who) for who in options.engines]
        router = await _start_router(children, options)
        gateway = await _start_gateway(children, options)
        for child in (*engines, router, *([gateway] if gateway else [])):
            await child.ready()
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
