"""Carries out the effects that every actor has in common: messages and spans."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from msgspec import Struct

from bus.interface import Bus, BusError
from observability.sink import SpanSink

from .effects import Effect, Publish, Record

logger = logging.getLogger("microserve.carrier")


class CarrierStatistics(Struct, frozen=True):
    failed: int
    """Messages that the bus would not take: too large, or no connection and no room."""


class Carrier:
    """Publishes and records in order. What cannot be published is logged and counted: a broker
    that is away must not stop an engine that is decoding."""

    def __init__(self, bus: Bus, sink: SpanSink) -> None:
        self.bus, self.sink = bus, sink
        self._failed = 0

    async def carry(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Publish):
                try:
                    await self.bus.publish(effect.subject, effect.payload)
                except BusError as error:
                    self._failed += 1
                    logger.warning("a message was lost: %s", error)
            elif isinstance(effect, Record):
                self.sink.record(effect.spans)

    def statistics(self) -> CarrierStatistics:
        return CarrierStatistics(self._failed)
