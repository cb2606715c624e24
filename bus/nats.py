"""The bus on a NATS server, through nats-py."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from nats.aio.subscription import Subscription as Native
from nats.nuid import NUID

from . import discovery
from .checks import check_concrete, check_pattern, check_pending, check_queue, check_size
from .connection import CannotConnect, NatsConfig, servers, without_secret
from .handling import Handling
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
from .nats_subscription import NatsSubscription
from .quick import QuickClient
from .stage import Stage
from .watch import Watch

__all__ = ["CannotConnect", "NatsBus", "NatsConfig"]

logger = logging.getLogger("microserve.bus")

NO_RESPONDERS: Final = "503"
YIELD_EVERY: Final = 128
"""Messages of one publisher after which others in the event loop get a turn, and what was published
is written: more than a step of an engine has for 64 plain inboxes."""
HIGH_WATER_BYTES: Final = 1 << 20
"""Unwritten bytes from which on a publisher waits for the network."""
UNREACHABLE_BYTES: Final = 1 << 30
"""nats-py's own limit, out of the way of ours (see `QuickClient.written`)."""


class NatsBus:
    """`bus.interface.Bus` over one connection.

    ``url`` is ``nats://[TOKEN@]host:port``, or several of one cluster with commas between. For the
    event loop that entered it.
    """

    def __init__(self, url: str, *, name: str = "", config: NatsConfig | None = None) -> None:
        self._url = url
        self._name = name
        self._config = config or NatsConfig()
        self._client = QuickClient()
        self._nuid = NUID()
        self._subscriptions: dict[Native, NatsSubscription] = {}
        self._stage = Stage.NEW
        self._watch = Watch(self._client, self._subscriptions, repr(self))

    # --- a lifetime -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            CannotConnect: the broker is not there, or refused us.
        """
        assert self._stage is Stage.NEW, f"this bus {self._stage.value}"
        addresses = servers(self._url)
        self._stage = Stage.CONNECTING
        try:
            await self._connect(addresses)
        except BaseException:
            self._stage = Stage.CLOSED
            self._watch.leave()
            await self._client.close()
            raise
        self._stage = Stage.OPEN
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let handlers see what has arrived, for `drain_timeout_s` at most, and disconnect."""
        if self._stage is not Stage.OPEN:
            return
        self._stage = Stage.CLOSING
        self._watch.leave()
        try:
            if self._client.is_connected:
                async with asyncio.timeout(self._config.drain_timeout_s):
                    await self._drain()
        except TimeoutError:
            logger.warning("%s: left with messages that no handler has seen", self)
        finally:
            await self._disconnect()

    # --- messages -------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        self._require_open()
        return self._client.max_payload

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """As `Bus.publish`. Waits for the network while more than 1 MiB is unwritten, and lets
        others in the event loop have a turn now and then.

        Raises:
            BadHeader: besides those of `Bus.publish`.
        """
        check_concrete(subject)
        if reply:
            check_concrete(reply)
        if not self._client.has_room(HIGH_WATER_BYTES):
            await self._make_room(len(payload))
        check_size(subject, payload, headers, self._client.max_payload)
        self._client.send(subject, payload, reply, headers)
        if not self._client.stats["out_msgs"] % YIELD_EVERY:
            await asyncio.sleep(0)

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Headers | None = None
    ) -> Message:
        check_concrete(subject)
        if not self._client.has_room(HIGH_WATER_BYTES):
            await self._make_room(len(payload))
        check_size(subject, payload, headers, self._client.max_payload)
        try:
            reply = await self._client.ask(subject, payload, headers, timeout_s)
        except TimeoutError:
            raise RequestTimedOut(subject, timeout_s) from None
        if reply.headers.get("Status") == NO_RESPONDERS and not reply.payload:
            raise NoResponders(subject)
        return reply

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", max_pending: int = 65_536
    ) -> NatsSubscription:
        """As `Bus.subscribe`.

        Raises:
            BadSubject: the subject or the queue group is not one.
            Disconnected: the broker did not confirm; there is no subscription.
        """
        check_pattern(subject)
        check_queue(queue)
        check_pending(max_pending)
        self._require_open()
        handling = Handling(subject, handler)
        subscription = NatsSubscription(self._client, handling, self._subscriptions)
        subscription.enlist(
            await self._client.listen(handling, queue, max_pending, subscription.end)
        )
        try:
            await self.flush()
        except BaseException:
            await subscription.unsubscribe()
            raise
        return subscription

    def inbox(self) -> str:
        return f"_INBOX.{self._nuid.next().decode()}"

    async def flush(self) -> None:
        """As `Bus.flush`. What was published before a connection broke may be lost all the same.

        Raises:
            Disconnected: no answer within `flush_timeout_s`.
        """
        self._require_open()
        try:
            async with asyncio.timeout(self._config.flush_timeout_s):
                await self._watch.connected.wait()
                while not await self._client.ping():
                    await self._watch.connected.wait()
        except TimeoutError:
            raise Disconnected(
                f"the broker did not answer within {self._config.flush_timeout_s:g} s"
            ) from None

    async def announce(self, service: Service) -> None:
        """As `Bus.announce`. Raises: BadService."""
        await discovery.announce(self, service)

    def statistics(self) -> BusStatistics:
        stats = self._client.stats
        return BusStatistics(
            connected=self._client.is_connected,
            published=stats["out_msgs"],
            published_bytes=stats["out_bytes"],
            received=stats["in_msgs"],
            reconnects=stats["reconnects"],
            dropped=self._watch.num_dropped,
            errors=self._watch.num_errors,
        )

    def __repr__(self) -> str:
        return f"<NatsBus {self._name or 'without a name'} at {without_secret(self._url)}>"

    # --- inside ---------------------------------------------------------------------------------

    def _require_open(self) -> None:
        self._stage.require_open()
        if self._client.is_closed:
            raise Disconnected(f"the broker ended the connection: {self._client.last_error}")

    async def _make_room(self, num_bytes: int) -> None:
        """Raises: Disconnected."""
        self._require_open()
        client = self._client
        if client.is_connected:
            await client.written()
        elif client.pending_data_size + num_bytes > self._config.reconnect_buffer_bytes:
            raise Disconnected(
                f"no connection, and {client.pending_data_size} bytes wait for one already"
            )

    async def _connect(self, addresses: list[str]) -> None:
        config, watch = self._config, self._watch
        watch.give_up_at(config.connect_timeout_s, without_secret(self._url))
        await self._client.connect(
            addresses,
            name=self._name or None,
            error_cb=watch.on_error,
            disconnected_cb=watch.on_disconnected,
            reconnected_cb=watch.on_connected,
            closed_cb=watch.on_closed,
            connect_timeout=config.connect_timeout_s,  # type: ignore[arg-type]
            reconnect_time_wait=config.reconnect_wait_s,  # type: ignore[arg-type]
            max_reconnect_attempts=-1,
            ping_interval=config.ping_interval_s,
            pending_size=UNREACHABLE_BYTES,
            user_credentials=config.credentials_file or None,
            skip_subject_validation=True,  # `checks` is stricter
        )
        await self._client.expect_replies()
        await watch.on_connected()

    async def _drain(self) -> None:
        subscriptions = tuple(self._subscriptions.values())
        for subscription in subscriptions:
            await subscription.retire()
        if await self._client.ping():
            for subscription in subscriptions:
                await subscription.finish()
            await self._client.ping()

    async def _disconnect(self) -> None:
        for subscription in tuple(self._subscriptions.values()):
            await subscription.end()
        try:
            async with asyncio.timeout(self._config.drain_timeout_s):
                await self._client.close()
        except TimeoutError:
            logger.warning("%s: the broker did not take our last messages", self)
        finally:
            self._stage = Stage.CLOSED
