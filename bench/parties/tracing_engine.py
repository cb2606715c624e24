"""One process with an engine for each way of tracing: real hosts around the fake model."""

from __future__ import annotations

import contextlib

from msgspec import Struct

from actors.clock import monotone
from actors.engine import EngineHost
from actors.hosting import HostCore
from bus.nats import NatsBus
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from observability.sink import NullSink

from .conversation import Conversation, Ready, converse
from .fleet import ENGINE, EPOCH, MAX_CONTEXT, NUM_PAGES, PAGE_SIZE, beat, running
from .tracing_ways import WAYS, Way


class TracingEngines(Struct, frozen=True):
    url: str


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(TracingEngines)
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(NatsBus(config.url, name=ENGINE))
        for way in WAYS:
            await stack.enter_async_context(running(_host(bus, way)))
        conversation.say(Ready())
        await conversation.ended()


def _host(bus: NatsBus, way: Way) -> EngineHost:
    """Its spans go nowhere: what is measured is the router."""
    clock = monotone()
    runner = FakeRunner(fake_card(NUM_PAGES, PAGE_SIZE, max_context=MAX_CONTEXT))
    engine = Engine(EngineConfig(ENGINE, EPOCH), runner, FakeDetokenizer, None, clock)
    core = HostCore(ENGINE, EPOCH, engine, way.subjects)
    return EngineHost(bus, core, engine, beat, NullSink(), clock)


if __name__ == "__main__":
    converse(main)
