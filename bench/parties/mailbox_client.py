"""A client process of many answers with one mailbox: our Python client."""

from __future__ import annotations

import asyncio

from actors.client import Client
from bus.nats import NatsBus
from bus.public import Delta, GenerateRequest, Welcome

from .conversation import Conversation, Ready, converse
from .fleet import MODEL, SUBJECTS, ActorConfig
from .streams import ENDLESS, Tally, read_streams


class Reader:
    """Reads every answer in a task of its own, as a gateway would."""

    def __init__(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        self.tally = Tally()
        self._client, self._tasks = client, tasks
        self._readers: list[asyncio.Task[None]] = []
        self._welcomes = asyncio.Semaphore(0)

    async def open(self, num_streams: int) -> None:
        for number in range(num_streams):
            self._readers.append(self._tasks.create_task(self._read(number)))
        for _ in range(num_streams):
            await self._welcomes.acquire()

    def close(self) -> None:
        for reader in self._readers:
            reader.cancel()

    async def _read(self, number: int) -> None:
        request = GenerateRequest(prompt=(1,), max_tokens=ENDLESS, seed=number)
        async for message in self._client.generate(MODEL, request):
            if isinstance(message, Delta):
                self.tally.token(number, message.offset, message.tokens)
            elif isinstance(message, Welcome):
                self._welcomes.release()


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    async with (
        NatsBus(config.url, name="mailbox-client") as bus,
        Client(bus, SUBJECTS) as client,
        asyncio.TaskGroup() as tasks,
    ):
        reader = Reader(client, tasks)
        conversation.say(Ready())
        await read_streams(conversation, reader.tally, reader.open)
        reader.close()


if __name__ == "__main__":
    converse(main)
