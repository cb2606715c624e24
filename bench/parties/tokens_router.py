"""A router process that follows what its flows answer."""

from __future__ import annotations

from collections.abc import Mapping

from actors.clock import monotone
from actors.effects import Effect
from actors.intake import Limits
from actors.router import Desk, RouterHost
from actors.routing import RouterConfig, RouterCore, RouterInput
from bus.nats import NatsBus
from observability.sink import NullSink
from orchestrations.data_parallel import data_parallel
from orchestrations.machine import Strategy

from .conversation import Conversation, Ready, converse
from .fleet import MAX_CONTEXT, MODEL, ROUTER, SUBJECTS, ActorConfig, NoTokenizer, running
from .streams import VOCABULARY, Collect, Tally


class FollowingCore(RouterCore):
    """Counts the tokens that it has in its flows."""

    def __init__(self, config: RouterConfig, strategies: Mapping[str, Strategy]) -> None:
        super().__init__(config, strategies)
        self.tally = Tally()

    def handle(self, event: RouterInput, now: float) -> list[Effect]:
        effects = super().handle(event, now)
        if isinstance(event, tuple):
            self.tally.count(sum(len(more.tokens) for more in event))
        return effects


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    known = {"data_parallel": data_parallel}
    core = FollowingCore(RouterConfig(ROUTER, SUBJECTS, "data_parallel"), known)
    desk = Desk(NoTokenizer(), Limits(MAX_CONTEXT, VOCABULARY, tuple(known)))
    async with (
        NatsBus(config.url, name=ROUTER) as bus,
        running(RouterHost(bus, core, {MODEL: desk}, NullSink(), monotone())),
    ):
        conversation.say(Ready())
        async for collect in conversation.questions(Collect):
            core.tally.expect(collect.num_tokens)
            conversation.say(Ready())
            conversation.say(await core.tally.collected())


if __name__ == "__main__":
    converse(main)
