"""A flow that nobody wants to see: everything that a trace has, and nothing in it.

This is what tracing costs where it is off.
"""

from __future__ import annotations

from .spans import Span, SpanContext, Told, trace_id_of


def not_sampled(flow: str, parent: SpanContext | None) -> SpanContext:
    """What engines are told of a flow that they must not record: the caller's ids, where there was
    a caller."""
    if parent is not None:
        return SpanContext(parent.trace_id, parent.span_id, sampled=False)
    trace_id = trace_id_of(flow)
    return SpanContext(trace_id, trace_id[:15] + "1", sampled=False)


class Untraced:
    records = False
    """Whatever is said of it is forgotten, so that nothing need be made up for it."""

    def __init__(self, flow: str, parent: SpanContext | None) -> None:
        self.context = not_sampled(flow, parent)

    def about(self, told: Told) -> None: ...

    def moved(self, before: str, event: str, after: str, now: float, told: Told = None) -> None: ...

    def ordered(self, verb: str, engine: str, attempt: int, now: float) -> SpanContext:
        return self.context

    def answered(
        self,
        verb: str,
        engine: str,
        attempt: int,
        now: float,
        told: Told = None,
        error: str | None = None,
    ) -> None: ...

    def renewed(self, now: float) -> None: ...

    def ended(
        self, outcome: str, now: float, told: Told = None, error: str | None = None
    ) -> None: ...

    def drain(self) -> list[Span]:
        return []

    def so_far(self, now: float) -> tuple[Span, ...]:
        return ()
