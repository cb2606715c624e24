"""What the bus tests are told with: a bus of either kind, and a listener that can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from bus.interface import Message
from bus.memory import MemoryBus
from bus.nats import NatsBus

AnyBus: TypeAlias = MemoryBus | NatsBus
Connect: TypeAlias = Callable[[], AnyBus]

PATIENCE_S = 10.0


class Listener:
    """A handler that remembers. Waits have a deadline, so that a lost message is a failure."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._news = asyncio.Condition()

    async def __call__(self, message: Message) -> None:
        async with self._news:
            self.heard.append(message)
            self._news.notify_all()

    async def wait_for(self, count: int) -> list[Message]:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.heard) >= count)
        return self.heard

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.heard]


class Gate:
    """A handler that says when it has begun, and then waits to be let through."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.passed: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        self.begun.set()
        await self.open.wait()
        self.passed.append(message.payload)


class Echo:
    """A handler that answers with what it was asked."""

    def __init__(self, bus: AnyBus) -> None:
        self._bus = bus

    async def __call__(self, message: Message) -> None:
        await self._bus.publish(message.reply, message.payload, headers=message.headers)


async def reach(condition: Callable[[], bool]) -> None:
    """Let others in the event loop work until ``condition`` holds; a deadline makes it fail."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event in both buses
            await asyncio.sleep(0.001)
