"""A gateway process, for its live page alone."""

from __future__ import annotations

from msgspec import Struct

from actors.clock import monotone
from actors.gateway.host import GatewayConfig, GatewayHost
from bus.nats import NatsBus

from .conversation import Conversation, converse
from .fleet import ActorConfig, running


class Serving(Struct, frozen=True):
    """The answer to its configuration."""

    url: str


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    async with NatsBus(config.url, name="g0") as bus:
        host = GatewayHost(bus, GatewayConfig(port=0), {}, {}, monotone())
        async with running(host):
            conversation.say(Serving(host.url))
            await conversation.ended()


if __name__ == "__main__":
    converse(main)
