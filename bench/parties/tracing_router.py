"""A router process that exports the spans of the flows whose callers sampled them."""

from __future__ import annotations

import contextlib

from msgspec import Struct

from actors.clock import monotone
from actors.intake import Limits
from actors.router import Desk, RouterHost
from actors.routing import RouterConfig, RouterCore
from bus.nats import NatsBus
from observability.opening import TracingConfig, open_sink
from orchestrations.data_parallel import data_parallel

from .conversation import Conversation, Ready, converse
from .fleet import MAX_CONTEXT, MODEL, ROUTER, SUBJECTS, NoTokenizer, Settle, running, settled


class TracingActor(Struct, frozen=True):
    url: str
    endpoint: str
    """Of the collector."""


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(TracingActor)
    known = {"data_parallel": data_parallel}
    core = RouterCore(RouterConfig(ROUTER, SUBJECTS, "data_parallel"), known)
    desk = Desk(NoTokenizer(), Limits(MAX_CONTEXT, 1000, tuple(known)))
    sink = open_sink(TracingConfig(ROUTER, config.endpoint))
    with contextlib.closing(sink):
        async with (
            NatsBus(config.url, name=ROUTER) as bus,
            running(RouterHost(bus, core, {MODEL: desk}, sink, monotone())),
        ):
            conversation.say(Ready())
            async for _ in conversation.questions(Settle):
                await settled(sink)
                conversation.say(sink.statistics())


if __name__ == "__main__":
    converse(main)
