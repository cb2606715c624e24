"""Messages of one NATS subscription on their way to its handler, and the loop that calls it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as Native

from .handling import Handling
from .interface import Message


class Waiting:
    """Takes the place of nats-py's queue and task, whose four coroutines and two locks for every
    message cost more than most handlers do. nats-py sees it as a queue: `put_nowait`, `qsize`.
    """

    def __init__(self, native: Native, handling: Handling, max_pending: int) -> None:
        self._native, self._handling, self._max_pending = native, handling, max_pending
        self._messages: deque[Message] = deque()
        self._news: asyncio.Future[None] | None = None
        self._is_calling = False
        self._joining: list[asyncio.Future[None]] = []

    def put(self, message: Message) -> bool:
        """Whether there was room for it."""
        native = self._native
        num_bytes = native._pending_size + len(message.payload)
        if num_bytes >= native._pending_bytes_limit or len(self._messages) >= self._max_pending:
            return False
        native._received += 1
        native._pending_size = num_bytes
        self._messages.append(message)
        self._wake()
        return True

    def put_nowait(self, message: Msg) -> None:
        """For nats-py, which has counted the message before.

        Raises:
            asyncio.QueueFull: there was no room.
        """
        if len(self._messages) >= self._max_pending:
            raise asyncio.QueueFull
        self._messages.append(received(message))
        self._wake()

    def qsize(self) -> int:
        return len(self._messages)

    async def join(self) -> None:
        """Returns when the handler has seen every message."""
        while self._messages or self._is_calling:
            idle = asyncio.get_running_loop().create_future()
            self._joining.append(idle)
            await idle

    async def work(self, end: Callable[[], Awaitable[None]]) -> None:
        """Call the handler for every message until it is stopped, by itself too; then ``end``."""
        handling, messages, me = self._handling, self._messages, asyncio.current_task()
        while not handling.stopped:
            if not messages:
                await self._more()
            message = messages.popleft()
            self._native._pending_size -= len(message.payload)
            self._is_calling = True
            await handling.run(message, me)
            self._is_calling = False
        await end()

    async def _more(self) -> None:
        for idle in self._joining:
            if not idle.done():
                idle.set_result(None)
        self._joining.clear()
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def received(message: Msg) -> Message:
    return Message(message.subject, message.data, message.reply, message.headers or {})
