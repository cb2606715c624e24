"""Who goes first where two want the same: the more urgent, then the first comer."""

from __future__ import annotations

from typing import NamedTuple


class Rank(NamedTuple):
    """Ranks are compared from left to right; the lower goes first and gives way last."""

    urgency: int
    """The request's priority with its sign turned round."""
    serial: int
    """When it came: engines count what comes."""
    branch: int = 0
    """Answers of one request share its place in the order."""

    @classmethod
    def of(cls, priority: int, serial: int) -> Rank:
        return cls(-priority, serial)

    def branched(self, branch: int) -> Rank:
        return Rank(self.urgency, self.serial, branch)

    def turned(self) -> Rank:
        """Compares the other way round; turned twice it is itself again."""
        return Rank(-self.urgency, -self.serial, -self.branch)
