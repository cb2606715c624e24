"""A gateway's decision and its routers'."""

from __future__ import annotations

import pytest

from observability.beginning import begin_trace
from observability.http import Answered, HttpTrace
from observability.sampling import Sampling
from observability.spans import SpanContext, parse_traceparent

from .scripted import CALLER, FLOW, at

FRESH = "ab" * 9 + "f" * 14
UNSAMPLED = SpanContext(CALLER.trace_id, CALLER.span_id, sampled=False)
LATE = Sampling(0.0, follows_callers=False, slower_than_s=2.0)


def spans_of_a_slow_flow(sampling: Sampling, parent: SpanContext | None) -> list[str]:
    """What a router records that hears of the request from a gateway; both sample alike."""
    told = HttpTrace(sampling, parent, FRESH, at(0)).headers
    trace = begin_trace(sampling, FLOW, parse_traceparent(told), at(0))
    trace.ended("finished", at(2000))
    return [span.name for span in trace.drain()]


@pytest.mark.parametrize("parent", [None, CALLER], ids=["nobody's", "a caller's"])
def test_a_slow_flow_is_kept_though_the_gateway_did_not_choose_its_trace(
    parent: SpanContext | None,
) -> None:
    assert spans_of_a_slow_flow(LATE, parent) == ["microserve.request"]


def test_a_callers_not_sampled_goes_through_a_gateway() -> None:
    assert spans_of_a_slow_flow(LATE, UNSAMPLED) == []


def test_where_nobody_looks_back_a_gateways_decision_is_its_routers() -> None:
    trace = HttpTrace(Sampling(0.0), None, FRESH, at(0))

    told = parse_traceparent(trace.headers)
    assert told is not None
    assert (told.trace_id, told.sampled) == (FRESH, False)
    assert trace.ended("POST", "/v1/completions", at(1), Answered(200)) == []


def test_what_the_gateway_chose_its_routers_record_below_its_span() -> None:
    trace = HttpTrace(Sampling(1.0, failed=True), CALLER, FRESH, at(0))
    [span] = trace.ended("POST", "/v1/completions", at(1), Answered(200))

    assert parse_traceparent(trace.headers) == span.context
    assert span.parent == CALLER
