"""Which traces are recorded."""

from __future__ import annotations

from observability.beginning import begin_trace
from observability.sampling import Sampling
from observability.spans import SpanContext
from observability.tail import TailTrace
from observability.untraced import Untraced

from .scripted import CALLER, FLOW, at

LOW, HIGH = "ab" * 9 + "1" * 14, "ab" * 9 + "f" * 14


def test_a_ratio_takes_the_low_ids_whoever_decides() -> None:
    assert Sampling(0.1).head(None, LOW)
    assert not Sampling(0.1).head(None, HIGH)
    assert Sampling(1.0).head(None, HIGH)
    assert not Sampling(0.0).head(None, "0" * 31 + "1")


def test_a_callers_decision_is_ours() -> None:
    unsampled = SpanContext(HIGH, "ab" * 8, sampled=False)

    assert Sampling(0.0).head(SpanContext(HIGH, "ab" * 8), HIGH)
    assert not Sampling(0.0, follows_callers=False).head(SpanContext(HIGH, "ab" * 8), HIGH)
    assert not Sampling(1.0, slower_than_s=0.0).head(unsampled, HIGH)
    assert isinstance(begin_trace(Sampling(1.0, failed=True), FLOW, unsampled, at(0)), Untraced)


def test_what_is_not_traced_says_so_to_engines_under_the_callers_ids() -> None:
    trace = begin_trace(Sampling(0.0, follows_callers=False), FLOW, CALLER, at(0))
    trace.moved("Idle", "Submitted", "Generating", at(0))

    context = trace.ordered("StartGenerate", "e0", 1, at(0))
    trace.ended("finished", at(5))

    assert context == SpanContext(CALLER.trace_id, CALLER.span_id, sampled=False)
    assert not trace.records
    assert trace.drain() == []


def ended(seconds: float, error: str | None, sampling: Sampling) -> list[str]:
    trace = begin_trace(sampling, FLOW, None, at(0))
    assert isinstance(trace, TailTrace)
    trace.moved("Idle", "Submitted", "Generating", at(0))
    context = trace.ordered("StartGenerate", "e0", 1, at(0))
    assert not context.sampled  # engines record nothing: nobody knows yet
    trace.ended("failed" if error else "finished", at(seconds * 1000), error=error)
    return [span.name for span in trace.drain()]


def test_of_the_rest_what_was_slow_or_failed_is_kept_at_the_end() -> None:
    sampling = Sampling(0.0, slower_than_s=2.0, failed=True)

    assert ended(1.0, None, sampling) == []
    assert ended(2.0, None, sampling)[-1] == "microserve.request"
    assert ended(1.0, "engine_lost", sampling)[-1] == "microserve.request"
    assert ended(1.0, "engine_lost", Sampling(0.0, slower_than_s=2.0)) == []


def test_who_looks_at_a_flow_that_may_be_kept_sees_all_of_it_so_far() -> None:
    trace = begin_trace(Sampling(0.0, failed=True), FLOW, None, at(0))
    trace.moved("Idle", "Submitted", "Preparing", at(0))
    trace.ordered("PrepRecv", "e0", 1, at(0))
    trace.answered("PrepRecv", "e0", 1, at(3))

    seen = trace.so_far(at(5))

    assert [span.name for span in seen] == ["send PrepRecv", "Preparing", "microserve.request"]
    assert seen[-1].end_s == at(5)
    trace.ended("finished", at(6))
    assert trace.so_far(at(7)) == ()
