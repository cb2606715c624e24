"""Orders on their way to their engines: said until they are accepted, or an event that says why
they were not."""

from __future__ import annotations

import logging

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, BusError, NoResponders, PayloadTooLarge, RequestTimedOut
from bus.messages import Accepted, Refused
from bus.subjects import Subjects
from observability.logs import about

from .effects import Send
from .inputs import Undelivered

logger = logging.getLogger("microserve.router")


class Dispatch:
    """For one router. An order is said so many times, and each time has so long to be accepted."""

    def __init__(self, bus: Bus, subjects: Subjects, tries: int, accept_within_s: float) -> None:
        self._bus, self._subjects = bus, subjects
        self._tries, self._accept_within_s = tries, accept_within_s

    async def deliver(self, send: Send) -> Undelivered | None:
        """Hand an order over; every way in which that fails becomes an event."""
        order, verb = send.order, type(send.order.command).__name__
        subject = self._subjects.command(order.command.engine, verb)
        payload, within_s = encode(order), self._accept_within_s
        for _ in range(self._tries):
            try:
                reply = await self._bus.request(
                    subject, payload, timeout_s=within_s, headers=send.headers
                )
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
