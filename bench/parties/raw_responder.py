"""Plain nats-py that answers every request with the same bytes."""

from __future__ import annotations

import nats
from msgspec import Struct
from nats.aio.msg import Msg

from .conversation import Conversation, Ready, converse


class ResponderConfig(Struct, frozen=True):
    url: str
    subject: str
    reply_bytes: int


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ResponderConfig)
    reply = b"x" * config.reply_bytes

    async def answer(message: Msg) -> None:
        await message.respond(reply)

    client = await nats.connect(config.url)
    try:
        await client.subscribe(config.subject, cb=answer)
        await client.flush()
        conversation.say(Ready())
        await conversation.ended()
    finally:
        await client.close()


if __name__ == "__main__":
    converse(main)
