"""What every actor's process has around it: signals, a lifeline, its traces and recordings."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

import uvloop

from observability.opening import TracingConfig, open_sink
from observability.sink import SpanSink

from .first_words import say_ready
from .metering import Metering
from .options import Address
from .recorder import Recorder, StoreRecorder
from .recordings import RecordingError, RecordingStore
from .settings import Settings

logger = logging.getLogger("microserve.router")

VERSION = "0.1.0"


class Host(Protocol):
    ready: asyncio.Event

    async def run(self) -> None: ...


def run_until_signalled(main: Coroutine[Any, Any, None]) -> bool:
    """Run until it ends, or until SIGINT or SIGTERM asks it to; both end it cleanly. True where it
    was asked."""

    async def guarded() -> bool:
        task = asyncio.ensure_future(main)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    return uvloop.run(guarded())


async def serve(host: Host, name: str, lifeline: bool) -> None:
    """Run a host until it is cancelled or, with a lifeline, until standard input ends: whoever
    started us holds the other end, so that we do not outlive it."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(host.run())
        await host.ready.wait()
        say_ready(name)
        if lifeline:
            await _end_of_input()
            work.cancel()


async def _end_of_input() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()


@contextlib.contextmanager
def tracing(settings: Settings, service: str) -> Iterator[SpanSink]:
    """Where this process's spans go; what is pending is written at the end."""
    config = TracingConfig(
        service,
        settings.otlp_endpoint or "",
        settings.otlp_protocol,
        store=settings.trace_store,
    )
    with contextlib.closing(open_sink(config)) as sink:
        yield sink


def metering(settings: Settings, service: str, name: str, page: Address | None = None) -> Metering:
    """Where this process's metrics go; ``page`` is where Prometheus may read them."""
    return Metering(
        service,
        name,
        settings.metrics_endpoint or "",
        settings.otlp_protocol,
        settings.metrics_interval_s,
        page,
    )


@contextlib.contextmanager
def recording(settings: Settings) -> Iterator[Recorder | None]:
    """Where a router's flows are kept; None, and a word in the log, where that cannot be had."""
    try:
        recorder = StoreRecorder(RecordingStore(settings.recordings))
    except RecordingError as error:
        logger.warning("flows are not recorded: %s", error)
        yield None
        return
    with contextlib.closing(recorder):
        yield recorder
