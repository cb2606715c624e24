"""Plain nats-py that makes requests with a trace header, and times every reply."""

from __future__ import annotations

import asyncio
import time

import nats
from msgspec import Struct
from nats.aio.client import Client

from .conversation import Conversation, Ready, converse
from .hop_router import Times

HEADERS = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}


class RequesterConfig(Struct, frozen=True):
    url: str
    subject: str
    request_bytes: int


class RoundTrips(Struct, frozen=True):
    """How many round trips to time, so many at once."""

    count: int
    in_flight: int


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(RequesterConfig)
    client = await nats.connect(config.url)
    try:
        conversation.say(Ready())
        async for trips in conversation.questions(RoundTrips):
            conversation.say(await measure(client, config, trips))
    finally:
        await client.close()


async def measure(client: Client, config: RequesterConfig, trips: RoundTrips) -> Times:
    payload, each_s = b"x" * config.request_bytes, list[float]()

    async def lane() -> None:
        while len(each_s) < trips.count:
            began_s = time.perf_counter()
            await client.request(config.subject, payload, timeout=10, headers=HEADERS)
            each_s.append(time.perf_counter() - began_s)

    begin_s = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(trips.in_flight)))
    return Times(each_s, time.perf_counter() - begin_s)


if __name__ == "__main__":
    converse(main)
