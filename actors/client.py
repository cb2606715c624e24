"""A client of many requests with one mailbox: tokens of all of them arrive in the same messages."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, Message, Subscription
from bus.public import Batch, Delta, Done, GenerateRequest, Rejected, Reply, Spoken, Welcome
from bus.subjects import Subjects

from .answer import LOST, Answer, Lost
from .client_errors import (
    ConnectionLost,
    GenerateError,
    NoRouter,
    RequestRejected,
    rejection,
)

__all__ = ["Client", "GenerateError", "NoRouter", "RequestRejected"]

logger = logging.getLogger("microserve.client")

ACCEPT_WITHIN_S = 10.0
WATCH_S = 0.25
"""How soon a lost connection is noticed where nothing else tells."""
NO_RESPONDERS = "503"
MAX_STRANGERS = 1024
"""Flows whose tokens may come before their `Welcome` does."""


class Client:
    """Use as ``async with Client(bus)``; any number of `generate` calls may run at once."""

    def __init__(self, bus: Bus, subjects: Subjects | None = None) -> None:
        self.bus = bus
        self.subjects = subjects or Subjects()
        self.mailbox = bus.inbox()
        """The subject that every answer comes to."""
        self._subscription: Subscription | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._by_tag: dict[str, Answer] = {}
        self._by_flow: dict[str, Answer] = {}
        self._unheard: dict[str, str] = {}
        """The subjects of requests that nobody has answered yet, by tag."""
        self._strangers: dict[str, list[Reply]] = defaultdict(list)

    async def __aenter__(self) -> Self:
        self._subscription = await self.bus.subscribe(self.mailbox, self._on_batch)
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    async def generate(
        self, model: str, request: GenerateRequest, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Welcome | Spoken, None]:
        """The answer as it comes: one `Welcome`, an `Echo` where it was asked for, `Delta`s without
        gap or repeat, where several answers were asked for one `ChoiceDone` for each, one `Done`.

        Leaving the iterator early cancels the request.

        Raises:
            RequestRejected: the router turned it down.
            NoRouter: nobody took it.
            ConnectionLost: to the broker; what it published meanwhile is lost, and it is cancelled.
        """
        tag = secrets.token_hex(8)
        answer = Answer()
        subject = self.subjects.generate(model)
        self._by_tag[tag], self._unheard[tag] = answer, subject
        is_over = False
        try:
            payload = encode(replace(request, tag=tag))
            await self.bus.publish(subject, payload, reply=self.mailbox, headers=headers)
            yield await self._welcome(answer, model)
            while not is_over:
                message = answer.read()
                if message is None:
                    await answer.news()
                    continue
                if message is LOST:
                    raise ConnectionLost
                assert not isinstance(message, Lost)
                is_over = isinstance(message, Done)
                yield message
        finally:
            flow = self._forget(tag)
            if flow is not None and not is_over:
                await self.cancel(flow)

    async def cancel(self, flow: str) -> None:
        """Ask for the end of a flow, wherever it is; its `Done` says ``cancelled``."""
        await self.bus.publish(self.subjects.cancel(flow), b"")

    async def _watch(self) -> None:
        """Tell everybody who waits when the connection was lost: nothing else may come to them."""
        known = self.bus.statistics().reconnects
        while True:
            await asyncio.sleep(WATCH_S)
            now = self.bus.statistics().reconnects
            if now != known:
                known = now
                for answer in self._by_tag.values():
                    answer.put(LOST)

    async def _welcome(self, answer: Answer, model: str) -> Welcome:
        try:
            async with asyncio.timeout(ACCEPT_WITHIN_S):
                first = await answer.first()
        except TimeoutError:
            raise NoRouter(model) from None
        if first is None:
            raise NoRouter(model)
        if isinstance(first, Lost):
            raise ConnectionLost
        if isinstance(first, Rejected):
            raise rejection(first)
        assert isinstance(first, Welcome)
        return first

    def _forget(self, tag: str) -> str | None:
        """Returns the flow that the request has become, where it was welcomed."""
        self._unheard.pop(tag, None)
        answer = self._by_tag.pop(tag)
        flow = next((f for f, a in self._by_flow.items() if a is answer), None)
        if flow is not None:
            del self._by_flow[flow]
        return flow

    async def _on_batch(self, message: Message) -> None:
        if message.headers.get("Status") == NO_RESPONDERS:
            self._nobody(message.headers.get("Nats-Subject", ""))
            return
        try:
            batch = decode(message.payload, Batch)
        except Undecodable as error:
            logger.warning("unreadable message in the mailbox: %s", error)
            return
        unwanted: list[str] = []
        for reply in batch:
            answer = self._by_flow.get(reply.flow) if isinstance(reply, Delta) else None
            if answer is not None:
                answer.put(reply)
            elif isinstance(reply, Spoken):
                self._follow(reply)
            elif not self._is_awaited(reply) and isinstance(reply, Welcome):
                unwanted.append(reply.flow)
        for flow in unwanted:
            await self.cancel(flow)

    def _nobody(self, subject: str) -> None:
        """The broker says that nobody listens where a request went."""
        for tag in [t for t, s in self._unheard.items() if s == subject]:
            self._by_tag[tag].put(None)

    def _is_awaited(self, reply: Welcome | Rejected) -> bool:
        """The first word on a request, handed to who asked; False where he has left meanwhile."""
        self._unheard.pop(reply.tag, None)
        answer = self._by_tag.get(reply.tag)
        if answer is None:
            return False
        answer.put(reply)
        if isinstance(reply, Welcome):
            self._by_flow[reply.flow] = answer
            for early in self._strangers.pop(reply.flow, ()):
                answer.put(early)
        return True

    def _follow(self, reply: Spoken) -> None:
        """The last words of flows that were left come to nobody: they make room for later ones."""
        answer = self._by_flow.get(reply.flow)
        if answer is not None:
            answer.put(reply)
            return
        if reply.flow not in self._strangers and len(self._strangers) >= MAX_STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        self._strangers[reply.flow].append(reply)
