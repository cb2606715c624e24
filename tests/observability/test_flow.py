from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observability import flow as flow_module
from observability import names
from observability.flow import FlowTrace
from observability.spans import Span, SpanContext

from .scripted import BEGIN_S, CALLER, FLOW, at, begun, cancelled, disaggregated, failed


def named(spans: list[Span], name: str) -> Span:
    (span,) = [span for span in spans if span.name == name]
    return span


def parent_of(span: Span, spans: list[Span]) -> str:
    assert span.parent is not None
    return next(s.name for s in spans if s.context == span.parent)


def test_a_disaggregated_request_is_one_tree() -> None:
    spans = disaggregated()

    tree = sorted((s.name, parent_of(s, spans)) for s in spans if s.parent is not None)
    assert tree == [
        ("Done", "microserve.request"),
        ("Generating", "microserve.request"),
        ("Preparing", "microserve.request"),
        ("Sending", "microserve.request"),
        ("decode", "process StartGenerate"),
        ("kv.transfer", "process RemoteSend"),
        ("prefill", "process RemoteSend"),
        ("prefill", "process RemoteSend"),
        ("prefill", "process StartGenerate"),
        ("process PrepRecv", "send PrepRecv"),
        ("process RemoteSend", "send RemoteSend"),
        ("process StartGenerate", "send StartGenerate"),
        ("queue", "process RemoteSend"),
        ("send PrepRecv", "Preparing"),
        ("send RemoteSend", "Sending"),
        ("send StartGenerate", "Generating"),
    ]
    assert [s.name for s in spans if s.parent is None] == ["microserve.request"]


def test_every_span_has_an_id_of_its_own_and_the_flows_trace_id() -> None:
    spans = disaggregated()

    assert {span.context.trace_id for span in spans} == {FLOW}
    assert len({span.context.span_id for span in spans}) == len(spans) == 17


def test_children_lie_within_their_parents() -> None:
    spans = disaggregated()

    by_context = {span.context: span for span in spans}
    for span in spans:
        if span.parent is not None:
            parent = by_context[span.parent]
            assert parent.begin_s <= span.begin_s <= span.end_s <= parent.end_s, span.name


def test_states_follow_each_other_without_a_gap() -> None:
    states = [span for span in disaggregated() if names.STATE in span.attributes]

    assert [span.name for span in states] == ["Preparing", "Sending", "Generating", "Done"]
    assert [span.begin_s for span in states] == [at(0), at(2), at(442), at(995)]
    assert [span.end_s for span in states] == [at(2), at(442), at(995), at(1000)]


def test_the_root_tells_every_transition() -> None:
    root = named(disaggregated(), "microserve.request")

    told = [(e.attributes["before"], e.attributes["event"], e.at_s) for e in root.events]
    assert told == [
        ("Idle", "Submitted", at(0)),
        ("Preparing", "Prepared", at(2)),
        ("Sending", "Sent", at(442)),
        ("Generating", "Started", at(470)),
        ("Generating", "Finished", at(995)),
    ]


def test_the_root_says_what_was_asked_and_how_it_ended() -> None:
    root = named(disaggregated(), "microserve.request")

    assert root.kind == "server"
    assert root.error is None
    assert root.attributes == {
        "gen_ai.request.model": "smollm2-135m",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 1024,
        "gen_ai.usage.output_tokens": 32,
        "microserve.flow": FLOW,
        "microserve.orchestration": "disaggregated",
        "microserve.outcome": "finished",
    }


def test_a_command_says_where_it_was_sent() -> None:
    send = named(disaggregated(), "send RemoteSend")

    assert send.kind == "producer"
    assert send.service == "microserve-router"
    assert send.attributes == {
        "messaging.system": "nats",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.template": "ms.engine.{engine}.{verb}",
        "microserve.engine": "e0",
        "microserve.verb": "RemoteSend",
        "microserve.attempt": 1,
        "microserve.flow": FLOW,
    }


def test_a_callers_trace_goes_on_below_his_span() -> None:
    spans = disaggregated(parent=CALLER)

    assert {span.context.trace_id for span in spans} == {CALLER.trace_id}
    assert named(spans, "microserve.request").parent == CALLER
    assert {span.attributes["microserve.flow"] for span in spans} == {FLOW}


def test_two_requests_in_one_trace_share_no_span() -> None:
    one, other = disaggregated("1" * 32, CALLER), disaggregated("2" * 32, CALLER)

    assert not {s.context.span_id for s in one} & {s.context.span_id for s in other}


def test_a_flow_that_the_caller_did_not_sample_makes_contexts_and_no_spans() -> None:
    unsampled = SpanContext(CALLER.trace_id, CALLER.span_id, sampled=False)

    trace = begun(parent=unsampled)
    trace.moved("Idle", "Submitted", "Sending", at(0))
    context = trace.ordered("RemoteSend", "e0", 1, at(1))
    trace.ended("finished", at(2))

    assert not context.sampled
    assert trace.drain() == []
    assert disaggregated(parent=unsampled) == []


def test_the_same_flow_makes_the_same_spans_again() -> None:
    assert disaggregated() == disaggregated()


def test_a_cancelled_flow_keeps_its_releases() -> None:
    spans = cancelled()

    releases = {s.attributes["microserve.engine"]: s for s in spans if s.name == "send Release"}
    assert {parent_of(span, spans) for span in releases.values()} == {"Done"}
    assert releases["e0"].end_s == at(103)
    assert "microserve.unanswered" not in releases["e0"].attributes
    assert releases["e1"].attributes["microserve.unanswered"] is True
    assert named(spans, "microserve.request").attributes["microserve.outcome"] == "cancelled"
    assert [span.error for span in spans] == [None] * len(spans)


def test_a_failure_is_told_on_the_command_the_state_and_the_request() -> None:
    spans = failed()

    wrong = {span.name for span in spans if span.error is not None}
    assert wrong == {"microserve.request", "Sending", "send RemoteSend", "process RemoteSend"}


def test_a_last_state_that_took_no_time_leaves_no_span() -> None:
    trace = begun()
    trace.moved("Idle", "Submitted", "Generating", at(0))
    trace.moved("Generating", "Finished", "Done", at(9))

    trace.ended("finished", at(9))

    assert [span.name for span in trace.drain()] == ["Generating", "microserve.request"]


def test_staying_in_a_state_only_adds_an_event() -> None:
    trace = begun()
    trace.moved("Idle", "Submitted", "Generating", at(0))
    trace.moved("Generating", "Started", "Generating", at(5))

    assert trace.drain() == []


def test_a_repeated_command_is_the_same_command() -> None:
    trace = begun()

    first = trace.ordered("Query", "e0", 1, at(0))
    again = trace.ordered("Query", "e0", 1, at(1))
    trace.answered("Query", "e0", 1, at(2))
    trace.answered("Query", "e0", 1, at(3))

    assert first == again
    (span,) = trace.drain()
    assert (span.begin_s, span.end_s) == (at(0), at(2))


def test_a_command_given_again_after_its_answer_is_another_span() -> None:
    trace = begun()

    first = trace.ordered("Query", "e0", 1, at(0))
    trace.answered("Query", "e0", 1, at(1))

    assert trace.ordered("Query", "e0", 1, at(2)).span_id != first.span_id


def test_an_answer_to_an_unknown_command_is_ignored() -> None:
    trace = begun()

    trace.answered("Query", "e9", 1, at(1))

    assert trace.drain() == []


def test_the_end_counts_once() -> None:
    trace = begun()
    trace.ended("finished", at(1))
    trace.ended("failed", at(2), error="too late")
    trace.moved("Generating", "Finished", "Done", at(3))

    (root,) = trace.drain()
    assert (root.end_s, root.error, root.events) == (at(1), None, ())
    assert trace.drain() == []


def test_a_command_after_the_end_still_has_its_place_in_the_trace() -> None:
    trace = begun()
    trace.ended("cancelled", at(1))

    trace.ordered("Release", "e0", 1, at(2))
    trace.answered("Release", "e0", 1, at(3))

    release = named(trace.drain(), "send Release")
    assert release.parent == trace.context


def test_a_new_attempt_is_linked_to_the_one_before() -> None:
    trace = begun()
    first = trace.ordered("RemoteSend", "e0", 1, at(0))
    trace.answered("RemoteSend", "e0", 1, at(1), error="e0 is gone")
    trace.ordered("StartGenerate", "e1", 2, at(2))
    trace.ordered("Query", "e1", 2, at(2))
    trace.ended("finished", at(9))

    spans = trace.drain()
    (link,) = named(spans, "send StartGenerate").links
    assert link.context == first
    assert link.attributes == {"microserve.link": "previous attempt", "microserve.attempt": 1}
    assert named(spans, "send Query").links == ()


def test_no_span_ends_before_it_began_when_the_clock_steps_back() -> None:
    trace = begun()
    trace.moved("Idle", "Submitted", "Sending", at(10))
    trace.ordered("RemoteSend", "e0", 1, at(10))
    trace.ended("finished", at(5))

    assert all(span.begin_s <= span.end_s for span in trace.drain())


def test_events_over_the_limit_are_counted() -> None:
    trace = begun()
    for number in range(flow_module.MAX_EVENTS + 7):
        trace.moved("Generating", "Started", "Generating", at(number))
    trace.ended("finished", at(1000))

    root = named(trace.drain(), "microserve.request")
    assert len(root.events) == flow_module.MAX_EVENTS
    assert root.attributes["microserve.dropped_events"] == 7


def test_the_oldest_open_command_is_given_up_when_there_are_too_many() -> None:
    trace = begun()
    for number in range(flow_module.MAX_OPEN_COMMANDS + 1):
        trace.ordered("Query", f"e{number}", 1, at(number))

    (span,) = trace.drain()
    assert span.attributes["microserve.engine"] == "e0"
    assert span.attributes["microserve.unanswered"] is True


def test_spans_that_nobody_drains_are_dropped_oldest_first_and_counted() -> None:
    trace = begun()
    for number in range(flow_module.MAX_FINISHED + 3):
        trace.ordered("Query", f"e{number}", 1, at(number))
        trace.answered("Query", f"e{number}", 1, at(number))
    trace.ended("finished", at(1000))

    spans = trace.drain()
    assert len(spans) == flow_module.MAX_FINISHED
    assert spans[-1].attributes["microserve.dropped_spans"] == 3


calls = st.one_of(
    st.tuples(st.just("moved"), st.sampled_from("ABC"), st.sampled_from("ABC")),
    st.tuples(st.just("ordered"), st.sampled_from("xy"), st.integers(1, 2)),
    st.tuples(st.just("answered"), st.sampled_from("xy"), st.integers(1, 2)),
    st.tuples(st.just("ended")),
    st.tuples(st.just("drain")),
)


def play(trace: FlowTrace, call: tuple[object, ...], now: float) -> list[Span]:
    match call:
        case ("moved", str(before), str(after)):
            trace.moved(before, "Event", after, now)
        case ("ordered", str(engine), int(attempt)):
            trace.ordered("Verb", engine, attempt, now)
        case ("answered", str(engine), int(attempt)):
            trace.answered("Verb", engine, attempt, now)
        case ("ended",):
            trace.ended("finished", now)
        case _:
            return trace.drain()
    return []


@given(st.lists(st.tuples(calls, st.integers(-5, 50)), max_size=30))
@settings(max_examples=100)
def test_no_order_of_calls_raises_or_makes_a_span_twice(
    script: list[tuple[tuple[object, ...], int]],
) -> None:
    trace = begun()

    spans = [span for call, ms in script for span in play(trace, call, at(ms))]
    trace.ended("finished", at(99))
    spans += trace.drain()

    ids = [span.context.span_id for span in spans]
    assert len(set(ids)) == len(ids)
    assert [span.name for span in spans].count("microserve.request") == 1
    assert all(span.begin_s <= span.end_s for span in spans)


def test_times_are_unix_seconds() -> None:
    assert named(disaggregated(), "microserve.request").begin_s == pytest.approx(BEGIN_S)
