"""How long requests took, as histograms by label: of a router, or of a gateway."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from . import instruments
from .metrics import Histogram, Instrument, Labels, Point


class Timed(Struct, frozen=True):
    """One request, when it was over."""

    labels: tuple[tuple[str, str], ...]
    duration_s: float
    first_token_s: float | None
    """From the request to its first token; None where there was none."""
    num_tokens: int
    """Of one answer; of several, of all of them."""
    num_answers: int = 1
    error: str = ""
    """Its type; empty where it went well."""


class RequestTimes:
    def __init__(self) -> None:
        self._histograms: dict[tuple[str, tuple[tuple[str, str], ...]], Histogram] = {}
        self._tokens: dict[tuple[tuple[str, str], ...], int] = {}

    def observe(self, timed: Timed) -> None:
        labels, first = timed.labels, timed.first_token_s
        told = (*labels, ("error.type", timed.error)) if timed.error else labels
        self._observe(instruments.REQUEST_DURATION, told, timed.duration_s)
        self._tokens[labels] = self._tokens.get(labels, 0) + timed.num_tokens
        if first is None:
            return
        self._observe(instruments.FIRST_TOKEN, labels, first)
        gaps = timed.num_tokens // max(timed.num_answers, 1) - 1
        if gaps > 0:
            self._observe(instruments.PER_TOKEN, labels, (timed.duration_s - first) / gaps)

    def points(self, more: Labels | None = None) -> Iterator[Point]:
        """All of them, with ``more`` labels on each."""
        for (_, labels), histogram in self._histograms.items():
            yield histogram.point({**dict(labels), **(more or {})})
        for labels, count in self._tokens.items():
            yield Point(instruments.OUTPUT_TOKENS, count, {**dict(labels), **(more or {})})

    def _observe(
        self, instrument: Instrument, labels: tuple[tuple[str, str], ...], value: float
    ) -> None:
        key = instrument.name, labels
        if key not in self._histograms:
            self._histograms[key] = Histogram(instrument)
        self._histograms[key].observe(value)
