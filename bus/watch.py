"""Listens to what nats-py tells of one connection: losses, complaints of the broker, drops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from nats import errors
from nats.aio.subscription import Subscription as Native

from .connection import CannotConnect, explain, refused_credentials
from .nats_subscription import NatsSubscription
from .sturdy import SturdyClient

logger = logging.getLogger("microserve.bus")


class Watch:
    """Its ``on_...`` methods are nats-py's callbacks; ``label`` names the bus in the log."""

    def __init__(
        self,
        client: SturdyClient,
        subscriptions: Mapping[Native, NatsSubscription],
        label: str,
    ) -> None:
        self.connected = asyncio.Event()
        self.num_dropped = 0
        self.num_errors = 0
        self._client = client
        self._subscriptions = subscriptions
        self._label = label
        self._was_connected = False
        self._leaving = False
        self._deadline_s = 0.0
        self._url = ""
        self._last_complaint = ""

    def give_up_at(self, patience_s: float, url: str) -> None:
        """From when on a failure to make the first connection is final, and whose it is."""
        self._deadline_s = asyncio.get_running_loop().time() + patience_s
        self._url = url

    def leave(self) -> None:
        """What comes now is expected: say nothing."""
        self._leaving = True

    async def on_connected(self) -> None:
        if self._was_connected:
            logger.info("%s: connected again", self._label)
        self._was_connected = True
        self.connected.set()

    async def on_disconnected(self) -> None:
        self.connected.clear()
        self._client.abandon_pings()
        if not self._leaving:
            logger.warning("%s: the connection is lost; trying to reconnect", self._label)

    async def on_closed(self) -> None:
        if not self._leaving:
            logger.error("%s: ended by the broker: %s", self._label, self._client.last_error)

    async def on_error(self, error: Exception) -> None:
        if not self._was_connected and not self._leaving:
            self._give_up_where_hopeless(error)
        elif isinstance(error, errors.SlowConsumerError):
            self._drop(error.sub)
        elif isinstance(error, OSError | errors.StaleConnectionError | TimeoutError):
            logger.debug("%s: %r", self._label, error)
        else:
            self._complain(error)

    def _give_up_where_hopeless(self, error: Exception) -> None:
        """nats-py would try a first connection for ever; raising from here ends that."""
        late = asyncio.get_running_loop().time() >= self._deadline_s
        if late or refused_credentials(error):
            raise CannotConnect(self._url, explain(error)) from None

    def _drop(self, native: Native) -> None:
        self.num_dropped += 1
        subscription = self._subscriptions.get(native)
        if subscription is not None:
            subscription.drop()

    def _complain(self, error: Exception) -> None:
        """Log what the broker said; only once where every attempt to reconnect hears the same."""
        self.num_errors += 1
        complaint = str(error)
        if self._client.is_connected or complaint != self._last_complaint:
            logger.warning("%s: %s", self._label, complaint)
        self._last_complaint = complaint
