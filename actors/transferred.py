"""What left an engine in KV transfers, counted by lane from the phases that it tells."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from engine.outcomes import Phase


class Transferred(Struct, frozen=True):
    """Transfers that were acknowledged."""

    count: int = 0
    num_bytes: int = 0
    seconds: float = 0.0
    exposed_s: float = 0.0
    """Of ``seconds``, what no computation hid."""

    def plus(self, phase: Phase) -> Transferred:
        told = phase.attributes
        seconds = float(told.get("seconds", phase.end_s - phase.begin_s))
        return Transferred(
            self.count + 1,
            self.num_bytes + int(told.get("bytes", 0)),
            self.seconds + seconds,
            self.exposed_s + min(float(told.get("exposed_s", seconds)), seconds),
        )


class Transfers:
    """As they add up."""

    def __init__(self) -> None:
        self._by_lane: dict[str, Transferred] = {}

    def add(self, phases: Iterable[Phase]) -> None:
        for phase in phases:
            if phase.name == "transfer":
                lane = str(phase.attributes.get("lane", ""))
                self._by_lane[lane] = self._by_lane.get(lane, Transferred()).plus(phase)

    def by_lane(self) -> dict[str, Transferred]:
        return dict(self._by_lane)
