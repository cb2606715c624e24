"""A flow begins: which kind of trace it gets."""

from __future__ import annotations

from typing import TypeAlias

from .flow import FlowTrace
from .sampling import Sampling
from .spans import SpanContext, trace_id_of
from .tail import TailTrace
from .untraced import Untraced

Trace: TypeAlias = FlowTrace | TailTrace | Untraced
"""What a router's player has of a flow. Type checkers hold each call against all of them."""


def begin_trace(sampling: Sampling, flow: str, parent: SpanContext | None, now: float) -> Trace:
    """With as much in it as ``sampling`` may want to see."""
    trace_id = parent.trace_id if parent else trace_id_of(flow)
    if sampling.head(parent, trace_id):
        return FlowTrace(flow, parent, now)
    if sampling.decides_later(parent):
        return TailTrace(flow, parent, now, sampling)
    return Untraced(flow, parent)
