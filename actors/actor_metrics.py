"""The points that every actor has: of its connection to the broker, and of its spans."""

from __future__ import annotations

from collections.abc import Iterator

from bus.interface import BusStatistics
from observability import instruments as of
from observability.metrics import Point
from observability.sink import SinkStatistics


def bus_points(bus: BusStatistics) -> Iterator[Point]:
    yield Point(of.CONNECTED, float(bus.connected))
    yield Point(of.MESSAGES, bus.published, {"direction": "published"})
    yield Point(of.MESSAGES, bus.received, {"direction": "received"})
    yield Point(of.SLOW_CONSUMER, bus.dropped)
    yield Point(of.RECONNECTS, bus.reconnects)
    yield Point(of.BUS_ERRORS, bus.errors)


def sink_points(sink: SinkStatistics) -> Iterator[Point]:
    yield Point(of.SPANS, sink.written, {"fate": "written"})
    yield Point(of.SPANS, sink.dropped, {"fate": "dropped"})
