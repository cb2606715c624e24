"""A flow that nobody wants to see: everything that a trace has, and nothing in it.

This is what tracing costs where it is off.
"""

from __future__ import annotations

from typing import TypeAlias

from .flow import FlowTrace
from .sampling import Sampling
from .spans import Attributes, Span, SpanContext, trace_id_of


class Untraced:
    """Engines are told *not sampled*, under the caller's ids where there was a caller."""

    records = False
    """Whatever is said of it is forgotten, so that nothing need be made up for it."""

    def __init__(self, flow: str, parent: SpanContext | None) -> None:
        trace_id = parent.trace_id if parent else trace_id_of(flow)
        span_id = parent.span_id if parent else trace_id[:15] + "1"
        self.context = SpanContext(trace_id, span_id, sampled=False)

    def about(self, attributes: Attributes) -> None: ...

    def moved(
        self, before: str, event: str, after: str, now: float, attributes: Attributes | None = None
    ) -> None: ...

    def ordered(self, verb: str, engine: str, attempt: int, now: float) -> SpanContext:
        return self.context

    def answered(
        self,
        verb: str,
        engine: str,
        attempt: int,
        now: float,
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None: ...

    def renewed(self, now: float) -> None: ...

    def ended(
        self,
        outcome: str,
        now: float,
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None: ...

    def drain(self) -> list[Span]:
        return []

    def so_far(self, now: float) -> tuple[Span, ...]:
        return ()


Trace: TypeAlias = FlowTrace | Untraced
"""What a router's player has of a flow. Type checkers hold each call against both."""


def begin_trace(sampling: Sampling, flow: str, parent: SpanContext | None, now: float) -> Trace:
    """The trace of a flow that begins, with as much in it as ``sampling`` may want to see."""
    trace_id = parent.trace_id if parent else trace_id_of(flow)
    if sampling.head(parent, trace_id):
        return FlowTrace(flow, parent, now)
    if sampling.decides_later(parent):
        return FlowTrace(flow, parent, now, sampling)
    return Untraced(flow, parent)
