"""An engine process with everything but a model: the real host around the real engine."""

from __future__ import annotations

import contextlib

from actors.clock import monotone
from actors.engine import EngineHost
from actors.hosting import HostCore
from bus.nats import NatsBus
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card

from .conversation import Conversation, Ready, converse
from .fleet import (
    ENGINE,
    EPOCH,
    MAX_CONTEXT,
    NUM_PAGES,
    PAGE_SIZE,
    SUBJECTS,
    ActorConfig,
    Settle,
    beat,
    running,
    settled,
    sink,
)


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    clock = monotone()
    runner = FakeRunner(fake_card(NUM_PAGES, PAGE_SIZE, max_context=MAX_CONTEXT))
    engine = Engine(EngineConfig(ENGINE, EPOCH), runner, FakeDetokenizer, None, clock)
    core = HostCore(ENGINE, EPOCH, engine, SUBJECTS)
    with contextlib.closing(sink(config, ENGINE)) as spans:
        async with (
            NatsBus(config.url, name=ENGINE) as bus,
            running(EngineHost(bus, core, engine, beat, spans, clock)),
        ):
            conversation.say(Ready())
            async for _ in conversation.questions(Settle):
                await settled(spans)
                conversation.say(Ready())


if __name__ == "__main__":
    converse(main)
