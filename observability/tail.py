"""A flow of which only its end will tell whether anybody wants to see it.

What happens to it is noted, at the price of a list's entry each time. The spans are made of the
notes when it ended slowly or badly, or when somebody looks; for all the others they never are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from .flow import FlowTrace
from .sampling import Sampling
from .spans import Span, SpanContext, Told
from .untraced import not_sampled

MAX_NOTES: Final = 256
"""Of a flow that goes on for longer than this the spans are made as it goes, and bounded as those
of every flow."""

Note: TypeAlias = tuple[Callable[..., object], tuple[object, ...]]
"""A method of `FlowTrace`, and what it was called with."""


class TailTrace:
    """Told everything as a `FlowTrace` is, and `drain` gives what that would, where ``sampling``
    keeps the flow: nothing before its end, and nothing at all of other flows.

    Engines are told *not sampled*: nobody knows yet.
    """

    records = True

    def __init__(
        self, flow: str, parent: SpanContext | None, now: float, sampling: Sampling
    ) -> None:
        self.context = not_sampled(flow, parent)
        self._flow, self._parent, self._began_s = flow, parent, now
        self._sampling = sampling
        self._notes: list[Note] = []
        self._trace: FlowTrace | None = None
        self._over = self._kept = False

    def about(self, told: Told) -> None:
        self._note(FlowTrace.about, told)

    def moved(self, before: str, event: str, after: str, now: float, told: Told = None) -> None:
        self._note(FlowTrace.moved, before, event, after, now, told)

    def ordered(self, verb: str, engine: str, attempt: int, now: float) -> SpanContext:
        self._note(FlowTrace.ordered, verb, engine, attempt, now)
        return self.context

    def answered(
        self,
        verb: str,
        engine: str,
        attempt: int,
        now: float,
        told: Told = None,
        error: str | None = None,
    ) -> None:
        self._note(FlowTrace.answered, verb, engine, attempt, now, told, error)

    def renewed(self, now: float) -> None:
        self._note(FlowTrace.renewed, now)

    def ended(self, outcome: str, now: float, told: Told = None, error: str | None = None) -> None:
        """The first end is the one that counts."""
        if self._over:
            return
        self._note(FlowTrace.ended, outcome, now, told, error)
        self._over = True
        self._kept = self._sampling.tail(now - self._began_s, error is not None)
        if not self._kept:
            self._notes, self._trace = [], None

    def drain(self) -> list[Span]:
        """The spans since the last call, in the order they ended; none before the flow did."""
        return self._played().drain() if self._kept else []

    def so_far(self, now: float) -> tuple[Span, ...]:
        """What is known, and what is still open as if it ended now. Decides nothing."""
        return self._played().so_far(now) if self._kept or not self._over else ()

    def _note(self, method: Callable[..., object], *told: object) -> None:
        if self._over and not self._kept:
            return
        self._notes.append((method, told))
        if len(self._notes) >= MAX_NOTES:
            self._played()

    def _played(self) -> FlowTrace:
        """The trace as it would be had it been made from the beginning."""
        if self._trace is None:
            self._trace = FlowTrace(self._flow, self._parent, self._began_s)
        notes, self._notes = self._notes, []
        for method, told in notes:
            method(self._trace, *told)
        return self._trace
