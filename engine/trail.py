"""What a command spent its time on, noted as it happens and told with its events."""

from __future__ import annotations

from .outcomes import Phase


class Trail:
    """Phases in the order in which they ended; `take` empties it, so each is told once."""

    def __init__(self) -> None:
        self._phases: list[Phase] = []

    def add(self, name: str, begin_s: float, end_s: float, **attributes: str | int | float) -> None:
        self._phases.append(Phase(name, begin_s, end_s, dict(attributes)))

    def take(self) -> tuple[Phase, ...]:
        phases, self._phases = tuple(self._phases), []
        return phases
