"""What routers hear of the answers that an engine gives: every token, in few messages.

A router needs its copy to go on from when the engine dies, and what it lacks then is computed
again, to the same tokens. So it may be a little behind, and a message per step would be waste: at
full speed it cost as much as the users' own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from bus.messages import Followed
from bus.public import Delta
from bus.tokens import Tokens

INTERVAL_S = 0.1
"""How far behind a router may be, besides the step that is being made."""


class _Behind:
    """Tokens of one answer that its router has not been told of."""

    __slots__ = ("offset", "tokens")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.tokens: list[int] = []


class Following:
    """Pure: times are arguments. Tokens of one answer come in order, without gaps."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._told_s = float("-inf")
        self._behind: dict[str, dict[tuple[str, int], _Behind]] = defaultdict(dict)
        """By router, and flow and choice."""

    def add(self, router: str, delta: Delta) -> None:
        answers, key = self._behind[router], (delta.flow, delta.choice)
        behind = answers.get(key)
        if behind is None:
            behind = answers[key] = _Behind(delta.offset)
        behind.tokens += delta.tokens

    def is_due(self, now: float) -> bool:
        return now - self._told_s >= self._interval_s

    def take(self, now: float) -> list[tuple[str, tuple[Followed, ...]]]:
        """For each router, what it has not been told, which from now on it has."""
        taken = [(router, tuple(_followed(answers))) for router, answers in self._behind.items()]
        if taken:
            self._behind.clear()
            self._told_s = now
        return taken


def _followed(answers: dict[tuple[str, int], _Behind]) -> Iterable[Followed]:
    for (flow, choice), behind in answers.items():
        yield Followed(flow, behind.offset, Tokens(behind.tokens), choice)
