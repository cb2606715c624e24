"""The bus without a network: the in-process twin of `bus.nats`, with the same guarantees."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from types import TracebackType
from typing import Self

from . import discovery
from .broker import NO_RESPONDERS, Interest, MemoryBroker
from .checks import check_concrete, check_pattern, check_pending, check_queue, check_size
from .handling import YIELD_EVERY, Handling
from .interface import (
    BusStatistics,
    Disconnected,
    Handler,
    Headers,
    Message,
    NoResponders,
    RequestTimedOut,
    Service,
)
from .memory_subscription import MemorySubscription, Tally
from .stage import Stage

__all__ = ["MemoryBroker", "MemoryBus"]

logger = logging.getLogger("microserve.bus")


class MemoryBus:
    """`bus.interface.Bus` on a `MemoryBroker`. For one event loop.

    Handlers run in tasks of their own, never inside `publish`.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        *,
        name: str = "",
        reconnect_buffer_bytes: int = 2 << 20,
        patience_s: float = 5.0,
    ) -> None:
        """``patience_s`` bounds both `flush` and how long leaving waits for handlers."""
        self.name = name
        self._broker = broker
        self._reconnect_buffer_bytes = reconnect_buffer_bytes
        self._patience_s = patience_s
        self._stage = Stage.NEW
        self._connected = asyncio.Event()
        self._kept: deque[Message] = deque()
        self._subscriptions: set[MemorySubscription] = set()
        self._num_kept_bytes = 0
        self._tally = Tally()

    # --- a lifetime -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        assert self._stage is Stage.NEW, f"this bus {self._stage.value}"
        self._stage = Stage.OPEN
        self._connected.set()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let handlers see what has arrived, for ``patience_s`` at most. Again does nothing."""
        if self._stage is not Stage.OPEN:
            return
        self._stage = Stage.CLOSING
        try:
            async with asyncio.timeout(self._patience_s):
                await self._drain()
        except TimeoutError:
            logger.warning("%s: left with messages that no handler has seen", self)
        finally:
            for subscription in tuple(self._subscriptions):
                await subscription.end()
            self._stage = Stage.CLOSED
            self._connected.clear()

    # --- messages -------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        self._stage.require_open()
        return self._broker.max_payload

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        check_concrete(subject)
        if reply:
            check_concrete(reply)
        self._hand_over(subject, payload, reply, headers)
        if not self._tally.published % YIELD_EVERY:
            await asyncio.sleep(0)

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Headers | None = None
    ) -> Message:
        check_concrete(subject)
        reply = self.inbox()
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        interest = Interest(self, reply, lambda message: self._answer(answer, message))
        self._broker.add(interest)
        try:
            self._hand_over(subject, payload, reply, headers)
            async with asyncio.timeout(timeout_s):
                message = await answer
        except TimeoutError:
            raise RequestTimedOut(subject, timeout_s) from None
        finally:
            self._broker.remove(interest)
        if message.headers.get("Status") == NO_RESPONDERS:
            raise NoResponders(subject)
        return message

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", max_pending: int = 65_536
    ) -> MemorySubscription:
        """As `Bus.subscribe`.

        Raises:
            BadSubject: the subject or the queue group is not one.
            Disconnected: cut off for ``patience_s``; there is no subscription.
        """
        check_pattern(subject)
        check_queue(queue)
        check_pending(max_pending)
        self._stage.require_open()
        subscription = MemorySubscription(
            Handling(subject, handler), max_pending, self._subscriptions, self._tally
        )
        subscription.enlist(self._broker, Interest(self, subject, subscription.accept, queue))
        try:
            await self.flush()
        except BaseException:
            await subscription.unsubscribe()
            raise
        return subscription

    def inbox(self) -> str:
        return f"_INBOX.{self._broker.number()}"

    async def flush(self) -> None:
        """As `Bus.flush`. Raises: Disconnected: cut off for ``patience_s``."""
        self._stage.require_open()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._connected.wait()
                await asyncio.sleep(0)
        except TimeoutError:
            raise Disconnected(f"the broker did not answer within {self._patience_s:g} s") from None

    async def announce(self, service: Service) -> None:
        """As `Bus.announce`. Raises: BadService."""
        await discovery.announce(self, service)

    def statistics(self) -> BusStatistics:
        return BusStatistics(
            connected=self._connected.is_set(),
            published=self._tally.published,
            published_bytes=self._tally.published_bytes,
            received=self._tally.received,
            reconnects=self._tally.reconnects,
            dropped=self._tally.dropped,
            errors=0,
        )

    def __repr__(self) -> str:
        return f"<MemoryBus {self.name or 'without a name'}>"

    # --- what the broker tells us ---------------------------------------------------------------

    def on_disconnected(self) -> None:
        self._connected.clear()

    def on_reconnected(self) -> None:
        if self._stage is Stage.CLOSED:
            return
        self._tally.reconnects += 1
        self._connected.set()
        while self._kept:
            self._broker.route(self._kept.popleft(), self)
        self._num_kept_bytes = 0

    # --- inside ---------------------------------------------------------------------------------

    def _hand_over(self, subject: str, payload: bytes, reply: str, headers: Headers | None) -> None:
        """Raises: PayloadTooLarge, BadHeader, Disconnected."""
        self._stage.require_open()
        check_size(subject, payload, headers, self._broker.max_payload)
        message = Message(subject, bytes(payload), reply, dict(headers or {}))
        if self._connected.is_set():
            self._broker.route(message, self)
        else:
            self._keep(message)
        self._tally.published += 1
        self._tally.published_bytes += len(payload)

    def _keep(self, message: Message) -> None:
        num_bytes = self._num_kept_bytes + len(message.payload)
        if num_bytes > self._reconnect_buffer_bytes:
            raise Disconnected(
                f"no connection, and {self._num_kept_bytes} bytes wait for one already"
            )
        self._num_kept_bytes = num_bytes
        self._kept.append(message)

    def _answer(self, answer: asyncio.Future[Message], message: Message) -> None:
        self._tally.received += 1
        if not answer.done():
            answer.set_result(message)

    async def _drain(self) -> None:
        subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.retire()
        for subscription in subscriptions:
            await subscription.finish()
