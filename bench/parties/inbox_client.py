"""A client process of many plain requests: nats-py, a reply inbox for each answer, and JSON."""

from __future__ import annotations

import asyncio
import json

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.codec import decode_public
from bus.public import Delta, Reply, Welcome
from bus.subjects import last

from .conversation import Conversation, Ready, converse
from .fleet import MODEL, SUBJECTS, ActorConfig
from .streams import ENDLESS, Tally, read_streams


class Reader:
    """One wildcard subscription for all inboxes, as nats-py has one for all its requests."""

    def __init__(self, client: Client) -> None:
        self.tally = Tally()
        self._client, self._inbox = client, client.new_inbox()
        self._welcomes = asyncio.Semaphore(0)

    async def open(self, num_streams: int) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._read)
        request = {"prompt": [1], "max_tokens": ENDLESS}
        for number in range(num_streams):
            payload = json.dumps({**request, "seed": number}).encode()
            inbox = f"{self._inbox}.{number}"
            await self._client.publish(SUBJECTS.generate(MODEL), payload, reply=inbox)
        for _ in range(num_streams):
            await self._welcomes.acquire()

    async def _read(self, message: Msg) -> None:
        reply = decode_public(message.data, Reply)
        if isinstance(reply, Delta):
            self.tally.token(int(last(message.subject)), reply.offset, reply.tokens)
        elif isinstance(reply, Welcome):
            self._welcomes.release()


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    client = await nats.connect(config.url)
    try:
        reader = Reader(client)
        conversation.say(Ready())
        await read_streams(conversation, reader.tally, reader.open)
    finally:
        await client.close()


if __name__ == "__main__":
    converse(main)
