"""Orders on their way to their engines: said until they are accepted, or an event that says why
they were not."""

from __future__ import annotations

import asyncio
import logging
from math import inf

from bus.codec import Undecodable, decode, encode
from bus.interface import (
    Bus,
    BusError,
    BusStatistics,
    Headers,
    Message,
    NoResponders,
    PayloadTooLarge,
    RequestTimedOut,
)
from bus.messages import Accepted, Refused
from bus.subjects import Subjects
from observability.logs import about

from .clock import Clock
from .effects import Send
from .inputs import Undelivered
from .patience import Patience

logger = logging.getLogger("microserve.router")


class Dispatch:
    """For one router. An order is said so many times, and each time has so long to be accepted.

    That nobody hears an order shows at once that its engine is gone; but not for a while after we
    were away from the broker ourselves, since the engine may have been away, too.
    """

    def __init__(self, bus: Bus, subjects: Subjects, patience: Patience, clock: Clock) -> None:
        self._bus, self._subjects = bus, subjects
        self._patience, self._clock = patience, clock
        self._num_reconnects, self._reconnected_s = 0, -inf

    def heed(self, bus: BusStatistics) -> None:
        """To be called at times: when we were last away is known no better than that."""
        if bus.reconnects != self._num_reconnects:
            self._num_reconnects, self._reconnected_s = bus.reconnects, self._clock()

    async def deliver(self, send: Send) -> Undelivered | None:
        """Hand an order over; every way in which that fails becomes an event."""
        order, verb = send.order, type(send.order.command).__name__
        subject = self._subjects.command(order.command.engine, verb)
        payload = encode(order)
        for _ in range(self._patience.tries):
            try:
                reply = await self._request(subject, payload, send.headers)
                answer = decode(reply.payload, Accepted | Refused)
            except RequestTimedOut:
                continue  # orders are idempotent: saying it again is safe
            except NoResponders:
                return Undelivered(order)
            except PayloadTooLarge as error:
                return Undelivered(order, Refused(verb, "too_large", str(error)))
            except (BusError, Undecodable) as error:
                return Undelivered(order, Refused(verb, "internal", str(error)))
            return Undelivered(order, answer) if isinstance(answer, Refused) else None
        told = about(flow=order.flow, engine=order.command.engine)
        logger.warning("%s did not accept a %s in time", order.command.engine, verb, extra=told)
        return Undelivered(order)

    async def _request(self, subject: str, payload: bytes, headers: Headers) -> Message:
        """As `Bus.request`, and again while whoever is to hear it may be on its way back."""
        within_s = self._patience.accept_within_s
        while True:
            try:
                return await self._bus.request(
                    subject, payload, timeout_s=within_s, headers=headers
                )
            except NoResponders:
                self.heed(self._bus.statistics())
                if self._clock() - self._reconnected_s >= self._patience.back_within_s:
                    raise
            await asyncio.sleep(self._patience.again_after_s)
