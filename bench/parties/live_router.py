"""A router process with all strategies, for a fleet that is watched."""

from __future__ import annotations

from actors.clock import monotone
from actors.intake import Limits
from actors.router import Desk, RouterHost
from actors.routing import RouterConfig, RouterCore
from bus.nats import NatsBus
from observability.sink import NullSink
from orchestrations.registry import strategies

from .conversation import Conversation, Ready, converse
from .fleet import MAX_CONTEXT, MODEL, ROUTER, SUBJECTS, ActorConfig, NoTokenizer, running
from .streams import VOCABULARY


async def main(conversation: Conversation) -> None:
    config, known = await conversation.hear(ActorConfig), strategies()
    core = RouterCore(RouterConfig(ROUTER, SUBJECTS, max_waiting=10_000), known)
    desk = Desk(NoTokenizer(), Limits(MAX_CONTEXT, VOCABULARY, tuple(known)))
    async with (
        NatsBus(config.url, name=ROUTER) as bus,
        running(RouterHost(bus, core, {MODEL: desk}, NullSink(), monotone())),
    ):
        conversation.say(Ready())
        await conversation.ended()


if __name__ == "__main__":
    converse(main)
