"""A client process of many plain requests: a reply inbox for each answer, and JSON."""

from __future__ import annotations

import asyncio
import json

from bus.codec import decode_public
from bus.interface import Message
from bus.nats import NatsBus
from bus.public import Delta, Reply, Welcome
from bus.subjects import last

from .conversation import Conversation, Ready, converse
from .fleet import MODEL, SUBJECTS, ActorConfig
from .streams import ENDLESS, Tally, read_streams


class Reader:
    """One wildcard subscription for all inboxes, as nats-py has one for all its requests."""

    def __init__(self, bus: NatsBus) -> None:
        self.tally = Tally()
        self._bus, self._inbox = bus, bus.inbox()
        self._welcomes = asyncio.Semaphore(0)

    async def open(self, num_streams: int) -> None:
        await self._bus.subscribe(f"{self._inbox}.*", self._read)
        request = {"prompt": [1], "max_tokens": ENDLESS}
        for number in range(num_streams):
            payload = json.dumps({**request, "seed": number}).encode()
            inbox = f"{self._inbox}.{number}"
            await self._bus.publish(SUBJECTS.generate(MODEL), payload, reply=inbox)
        for _ in range(num_streams):
            await self._welcomes.acquire()

    async def _read(self, message: Message) -> None:
        reply = decode_public(message.payload, Reply)
        if isinstance(reply, Delta):
            self.tally.token(int(last(message.subject)), reply.offset, reply.tokens)
        elif isinstance(reply, Welcome):
            self._welcomes.release()


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    async with NatsBus(config.url, name="inbox-client") as bus:
        reader = Reader(bus)
        conversation.say(Ready())
        await read_streams(conversation, reader.tally, reader.open)


if __name__ == "__main__":
    converse(main)
