"""One process with a router for each way of tracing, which knows what each of its threads spent."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time

from msgspec import Struct
from opentelemetry.sdk.environment_variables import OTEL_BSP_SCHEDULE_DELAY

from actors.clock import monotone
from actors.intake import Limits
from actors.router import Desk, RouterHost
from actors.routing import RouterConfig, RouterCore
from bus.nats import NatsBus
from observability.opening import TracingConfig, open_sink
from observability.sink import SpanSink
from orchestrations.data_parallel import data_parallel

from .conversation import Conversation, Ready, converse
from .fleet import MAX_CONTEXT, MODEL, ROUTER, NoTokenizer, running, settled
from .tracing_ways import VOCAB_SIZE, WAYS, Account, Exported, Glance, Spent, Way

KNOWN = {"data_parallel": data_parallel}


class TracingRouters(Struct, frozen=True):
    url: str
    endpoint: str
    """Of the collector."""
    export_every_s: float


class _Sunk(Struct, frozen=True):
    """Where one way's spans go, and the threads that take them there."""

    sink: SpanSink
    threads: tuple[threading.Thread, ...]

    def exported(self) -> Exported:
        told = self.sink.statistics()
        cpu_s = sum(_cpu_s(thread) for thread in self.threads)
        return Exported(cpu_s, told.written, told.dropped)


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(TracingRouters)
    logging.getLogger("microserve.router").setLevel(logging.ERROR)  # flows fail on purpose
    os.environ[OTEL_BSP_SCHEDULE_DELAY] = str(config.export_every_s * 1000)
    async with contextlib.AsyncExitStack() as stack:
        sunk = {way.name: _sunk(way, config.endpoint, stack) for way in WAYS}
        bus = await stack.enter_async_context(NatsBus(config.url, name=ROUTER))
        for way in WAYS:
            await stack.enter_async_context(running(_host(bus, way, sunk[way.name].sink)))
        conversation.say(Ready())
        async for question in conversation.questions(Account | Glance):
            if isinstance(question, Account):
                for one in sunk.values():
                    await settled(one.sink)
            conversation.say(_spent(sunk))


def _sunk(way: Way, endpoint: str, stack: contextlib.AsyncExitStack) -> _Sunk:
    before = set(threading.enumerate())
    sink = open_sink(TracingConfig(ROUTER, endpoint if way.exports else ""))
    stack.enter_context(contextlib.closing(sink))
    return _Sunk(sink, tuple(set(threading.enumerate()) - before))


def _host(bus: NatsBus, way: Way, sink: SpanSink) -> RouterHost:
    config = RouterConfig(ROUTER, way.subjects, "data_parallel", sampling=way.sampling)
    # It knows a token more than its engine does: what is refused there has failed.
    desk = Desk(NoTokenizer(), Limits(MAX_CONTEXT, VOCAB_SIZE + 1, tuple(KNOWN)))
    return RouterHost(bus, RouterCore(config, KNOWN), {MODEL: desk}, sink, monotone())


def _spent(sunk: dict[str, _Sunk]) -> Spent:
    exported = {name: one.exported() for name, one in sunk.items()}
    return Spent(time.process_time() - sum(e.cpu_s for e in exported.values()), exported)


def _cpu_s(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


if __name__ == "__main__":
    converse(main)
