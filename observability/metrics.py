"""What is measured, as plain values: instruments, and points of them at one moment.

An actor makes points from the `statistics()` of its parts when somebody wants them; nothing is
counted twice. `observability.prometheus` and `observability.otlp_metrics` write them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = Mapping[str, str]


class Instrument(Struct, frozen=True):
    """Names and units are OpenTelemetry's: dots, ``s``, ``By``, ``{token}``."""

    name: str
    kind: Kind
    unit: str
    description: str
    bounds: tuple[float, ...] = ()
    """Of a histogram: upper ends, inclusive; what is above the last one is counted, too."""


class Distribution(Struct, frozen=True):
    """``counts`` has one more than the instrument has bounds."""

    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        return sum(self.counts)


class Point(Struct, frozen=True):
    """The value of one instrument for one set of labels. Counters and histograms grow from the
    actor's start; a gauge is of now."""

    instrument: Instrument
    value: float | Distribution
    labels: Labels = {}


def distributed(instrument: Instrument, times: Sequence[int]) -> Distribution:
    """Of whole numbers: n was observed ``times[n]`` times."""
    counts = [0] * (len(instrument.bounds) + 1)
    for value, count in enumerate(times):
        counts[bisect_left(instrument.bounds, value)] += count
    total = sum(value * count for value, count in enumerate(times))
    return Distribution(tuple(counts), float(total))


class Histogram:
    """A distribution as it grows."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._counts = [0] * (len(instrument.bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._instrument.bounds, value)] += 1
        self._sum += value

    def point(self, labels: Labels) -> Point:
        return Point(self._instrument, Distribution(tuple(self._counts), self._sum), labels)
