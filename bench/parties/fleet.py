"""What engine and router parties have in common: names, the fake model, a host that runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from bus.messages import Beat
from bus.subjects import Subjects
from observability.opening import TracingConfig, open_sink
from observability.sink import SpanSink

ENGINE: Final = "e0"
ROUTER: Final = "r0"
MODEL: Final = "fake"
EPOCH: Final = 1
PAGE_SIZE: Final = 16
NUM_PAGES: Final = 1 << 20
"""Room for all streams at once, as long as each may become: routers keep flows waiting for it."""
MAX_CONTEXT: Final = 65_536
SUBJECTS: Final = Subjects()
SETTLING_S: Final = 0.01


class ActorConfig(Struct, frozen=True):
    """What an engine or router party is told first."""

    url: str
    trace_store: str
    """Where sampled spans are kept, as in a fleet without a collector."""


class Host(Protocol):
    ready: asyncio.Event

    async def run(self) -> None: ...


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[None]:
    """Inside the block the host is ready and runs."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(host.run())
        await host.ready.wait()
        try:
            yield
        finally:
            work.cancel()


class NoTokenizer:
    """For a router that is asked with token ids alone: a request with text is a mistake of the
    benchmark."""

    def encode(self, text: str) -> list[int]:
        raise AssertionError(f"the benchmark asked with text: {text[:80]!r}")

    def chat(self, messages: object, tools: object = ()) -> list[int]:
        raise AssertionError("the benchmark asked with a chat")


class Settle(Struct, frozen=True, tag=True):
    """Answer when no span waits to be written any more."""


async def settled(spans: SpanSink) -> None:
    """Returns when what one measurement left behind cannot disturb the next one."""
    while spans.statistics().pending:  # noqa: ASYNC110 - a sink has no event for it
        await asyncio.sleep(SETTLING_S)


def sink(config: ActorConfig, service: str) -> SpanSink:
    return open_sink(TracingConfig(service, store=Path(config.trace_store)))


def beat() -> Beat:
    """An idle engine's heartbeat."""
    return Beat(
        engine=ENGINE,
        epoch=EPOCH,
        model=MODEL,
        role="both",
        load=0,
        free_pages=NUM_PAGES,
        total_pages=NUM_PAGES,
        page_size=PAGE_SIZE,
        max_context=MAX_CONTEXT,
        compatibility="fake",
    )
