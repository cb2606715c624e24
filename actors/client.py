"""A client of many requests with one mailbox: tokens of all of them arrive in the same messages."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from msgspec.structs import replace

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, Message, Subscription
from bus.public import Batch, Delta, Done, GenerateRequest, Rejected, Reply, Welcome
from bus.subjects import Subjects

logger = logging.getLogger("microserve.client")

ACCEPT_WITHIN_S = 10.0
NO_RESPONDERS = "503"
_Heard: TypeAlias = Reply | None
"""None: the broker found nobody to take the request."""
MAX_STRANGERS = 1024
"""Flows whose tokens may come before their `Welcome` does."""


class GenerateError(Exception):
    """The request will not be answered."""


class RequestRejected(GenerateError):
    """The router turned the request down and says why."""

    def __init__(self, rejected: Rejected) -> None:
        super().__init__(f"{rejected.reason}: {rejected.message}")
        self.rejected = rejected


class NoRouter(GenerateError):
    """Nobody took the request."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"no router took the request for model {model!r}: is the system running "
            "('microserve up'), and is this the namespace it uses?"
        )


class Client:
    """Use as ``async with Client(bus)``; any number of `generate` calls may run at once."""

    def __init__(self, bus: Bus, subjects: Subjects | None = None) -> None:
        self.bus = bus
        self.subjects = subjects or Subjects()
        self.mailbox = bus.inbox()
        """The subject that every answer comes to."""
        self._subscription: Subscription | None = None
        self._by_tag: dict[str, asyncio.Queue[_Heard]] = {}
        self._by_flow: dict[str, asyncio.Queue[_Heard]] = {}
        self._unheard: dict[str, str] = {}
        """The subjects of requests that nobody has answered yet, by tag."""
        self._strangers: dict[str, list[Reply]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        self._subscription = await self.bus.subscribe(self.mailbox, self._on_batch)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def generate(
        self, model: str, request: GenerateRequest, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Welcome | Delta | Done, None]:
        """The answer as it comes: one `Welcome`, `Delta`s without gap or repeat, one `Done`.

        Leaving the iterator early cancels the request.

        Raises:
            RequestRejected: the router turned it down.
            NoRouter: nobody took it.
        """
        tag = secrets.token_hex(8)
        queue: asyncio.Queue[_Heard] = asyncio.Queue()
        subject = self.subjects.generate(model)
        self._by_tag[tag], self._unheard[tag] = queue, subject
        flow = ""
        try:
            payload = encode(replace(request, tag=tag))
            await self.bus.publish(subject, payload, reply=self.mailbox, headers=headers)
            welcome = await self._welcome(queue, model)
            flow = welcome.flow
            yield welcome
            async for message in _in_order(queue):
                if isinstance(message, Done):
                    flow = ""
                yield message
        finally:
            self._forget(tag)
            if flow:
                await self.cancel(flow)

    async def cancel(self, flow: str) -> None:
        """Ask for the end of a flow, wherever it is; its `Done` says ``cancelled``."""
        await self.bus.publish(self.subjects.cancel(flow), b"")

    async def _welcome(self, queue: asyncio.Queue[_Heard], model: str) -> Welcome:
        try:
            async with asyncio.timeout(ACCEPT_WITHIN_S):
                first = await queue.get()
        except TimeoutError:
            raise NoRouter(model) from None
        if first is None:
            raise NoRouter(model)
        if isinstance(first, Rejected):
            raise RequestRejected(first)
        assert isinstance(first, Welcome)
        return first

    def _forget(self, tag: str) -> None:
        self._unheard.pop(tag, None)
        queue = self._by_tag.pop(tag)
        for flow in [f for f, q in self._by_flow.items() if q is queue]:
            del self._by_flow[flow]

    async def _on_batch(self, message: Message) -> None:
        if message.headers.get("Status") == NO_RESPONDERS:
            self._nobody(message.headers.get("Nats-Subject", ""))
            return
        try:
            batch = decode(message.payload, Batch)
        except Undecodable as error:
            logger.warning("unreadable message in the mailbox: %s", error)
            return
        for reply in batch:
            self._sort(reply)

    def _nobody(self, subject: str) -> None:
        """The broker says that nobody listens where a request went."""
        for tag in [t for t, s in self._unheard.items() if s == subject]:
            self._by_tag[tag].put_nowait(None)

    def _sort(self, reply: Reply) -> None:
        if isinstance(reply, Welcome | Rejected):
            self._unheard.pop(reply.tag, None)
            queue = self._by_tag.get(reply.tag)
            if queue is None:
                return
            queue.put_nowait(reply)
            if isinstance(reply, Welcome):
                self._by_flow[reply.flow] = queue
                for early in self._strangers.pop(reply.flow, ()):
                    queue.put_nowait(early)
        elif (queue := self._by_flow.get(reply.flow)) is not None:
            queue.put_nowait(reply)
        elif reply.flow in self._strangers or len(self._strangers) < MAX_STRANGERS:
            self._strangers[reply.flow].append(reply)


async def _in_order(queue: asyncio.Queue[_Heard]) -> AsyncIterator[Delta | Done]:
    """Every token once, by offset; ends with the first terminal message."""
    seen = 0
    while True:
        message = await queue.get()
        if isinstance(message, Done):
            yield message
            return
        if isinstance(message, Delta) and message.offset + len(message.tokens) > seen:
            yield _unseen(message, seen)
            seen = message.offset + len(message.tokens)


def _unseen(delta: Delta, seen: int) -> Delta:
    """The part of a message that is new. Its text is kept only where all of it is: what text
    belongs to which token is not told."""
    again = seen - delta.offset
    if again <= 0:
        return delta
    return replace(
        delta, offset=seen, tokens=delta.tokens[again:], text="", logprobs=delta.logprobs[again:]
    )
