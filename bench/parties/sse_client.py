"""A client process of many answers over server-sent events: aiohttp."""

from __future__ import annotations

import asyncio

import aiohttp

from bus.codec import decode_public
from bus.public import Delta, Reply

from .conversation import Conversation, Ready, converse
from .streams import Address, Tally, read_streams

DATA = b"data: "


class Reader:
    def __init__(self, session: aiohttp.ClientSession, url: str, tasks: asyncio.TaskGroup) -> None:
        self.tally = Tally()
        self._session, self._url, self._tasks = session, url, tasks
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
        async with self._session.get(f"{self._url}/generate/{number}") as response:
            async for line in response.content:
                if line.startswith(DATA):
                    delta = decode_public(line[len(DATA) :], Reply)
                    assert isinstance(delta, Delta)
                    self.tally.token(number, delta.offset, delta.tokens)
                elif line.startswith(b":"):
                    self._welcomes.release()


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(Address)
    unlimited = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=unlimited) as session,
        asyncio.TaskGroup() as tasks,
    ):
        reader = Reader(session, config.url, tasks)
        conversation.say(Ready())
        await read_streams(conversation, reader.tally, reader.open)
        reader.close()


if __name__ == "__main__":
    converse(main)
