"""What a router's flows have done, counted: transitions by kind, and how long requests took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from msgspec import Struct

from observability import names
from observability.metrics import Point
from observability.request_times import RequestTimes, Timed
from orchestrations.machine import Outcome

from .flow import Flow

Move: TypeAlias = tuple[str, str, str]
"""State before, event, state after."""

MAX_KINDS = 4096
"""Of transitions that are told apart: strategies come and go while a router lives."""
OTHER = "other"


class Moves(Struct, frozen=True):
    """One kind of transition of one strategy."""

    orchestration: str
    before: str
    event: str
    after: str
    count: int


class History:
    def __init__(self) -> None:
        self._moves = Counter[tuple[str, Move]]()
        self._times = RequestTimes()

    def moved(self, orchestration: str, move: Move) -> None:
        key = orchestration, move
        if key not in self._moves and len(self._moves) >= MAX_KINDS:
            key = OTHER, (OTHER, OTHER, OTHER)
        self._moves[key] += 1

    def ended(self, flow: Flow, outcome: Outcome, now: float) -> None:
        first_s = flow.first_token_s
        labels = (
            (names.OPERATION, "text_completion"),
            (names.REQUEST_MODEL, flow.model),
            (names.ORCHESTRATION, flow.serving.ref.name),
        )
        self._times.observe(
            Timed(
                labels,
                now - flow.began_s,
                None if first_s is None else first_s - flow.began_s,
                flow.num_tokens,
                flow.request.sampling.n,
                "" if outcome in ("finished", "kept") else outcome,
            )
        )

    def moves(self) -> tuple[Moves, ...]:
        return tuple(Moves(name, *move, count) for (name, move), count in self._moves.items())

    def points(self) -> Iterator[Point]:
        """How long requests took."""
        return self._times.points()
