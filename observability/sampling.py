"""Which traces are recorded: decided when they begin (head), or of the rest at their end (tail).

A head decision travels in the headers, and engines follow it. A tail decision can be made only
where a flow ends: its router records its own part of a slow or failed flow (the states, the
commands, the decisions); of the engines' part there is nothing then.
"""

from __future__ import annotations

from math import inf
from typing import Final

from msgspec import Struct

from .spans import SpanContext

_RANDOM_BITS: Final = 56
"""At the end of a trace id, which are random as the W3C has them: whoever of ours sees the same id
with the same ratio decides alike."""


class Sampling(Struct, frozen=True):
    ratio: float = 1.0
    """Of the traces that begin here, 0 to 1."""
    follows_callers: bool = True
    """A caller who samples his trace has ours, too, whatever the ratio."""
    slower_than_s: float = inf
    """Flows that took so long are recorded in any case."""
    failed: bool = False
    """So are those that failed."""

    @property
    def looks_back(self) -> bool:
        return self.failed or self.slower_than_s < inf

    def head(self, parent: SpanContext | None, trace_id: str) -> bool:
        """A caller's *not sampled* is always followed."""
        if parent is not None and not parent.sampled:
            return False
        if parent is not None and self.follows_callers:
            return True
        return int(trace_id[-_RANDOM_BITS // 4 :], 16) < self.ratio * (1 << _RANDOM_BITS)

    def decides_later(self, parent: SpanContext | None) -> bool:
        """What is not sampled at the head may be at the tail; a caller's *not sampled* never is."""
        return self.looks_back and (parent is None or parent.sampled)

    def tail(self, duration_s: float, has_failed: bool) -> bool:
        return duration_s >= self.slower_than_s or (self.failed and has_failed)
