"""A gateway's points: requests as it saw them, and the fleet's beats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bus.messages import Beat
from observability import instruments as of
from observability.metrics import Point
from observability.request_times import RequestTimes, Timed

OTHER: Final = "other"


class Metrics:
    """For one process. Only models that the fleet serves become labels: a stranger's text would
    make as many series as there are strangers."""

    def __init__(self) -> None:
        self._times = RequestTimes()
        self.open = 0
        """Requests that are being answered."""

    def observe(self, timed: Timed) -> None:
        self._times.observe(timed)

    def points(self, beats: Iterable[Beat]) -> list[Point]:
        return [*self._times.points(), Point(of.OPEN_REQUESTS, self.open), *_fleet(beats)]


def labels(
    operation: str, model: str, known: Iterable[str]
) -> tuple[tuple[str, str], tuple[str, str]]:
    """``operation`` is ``chat`` or ``text_completion``."""
    shown = model if model in known else OTHER
    return ("gen_ai.operation.name", operation), ("gen_ai.request.model", shown)


def _fleet(beats: Iterable[Beat]) -> Iterator[Point]:
    for beat in beats:
        told = {"engine": beat.engine, "model": beat.model, "role": beat.role}
        for name, instrument in of.BEATS.items():
            yield Point(instrument, getattr(beat, name), told)
