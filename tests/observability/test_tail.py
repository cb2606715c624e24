"""A flow whose end decides: nothing is made before, and then all of it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from observability.flow import MAX_EVENTS, FlowTrace
from observability.sampling import Sampling
from observability.spans import Attributes, SpanContext
from observability.tail import MAX_NOTES, TailTrace

from .scripted import CALLER, FLOW, at

ALL = Sampling(0.0, slower_than_s=0.0)
FAILED = Sampling(0.0, failed=True)

Script = list[tuple[str, str, int, int]]
calls = st.tuples(
    st.sampled_from(["moved", "ordered", "answered", "renewed", "about"]),
    st.sampled_from("ABC"),
    st.integers(1, 2),
    st.integers(-5, 50),
)


def play(trace: FlowTrace | TailTrace, script: Script) -> None:
    for method, name, number, ms in script:
        match method:
            case "moved":
                trace.moved("A", "Event", name, at(ms), {"number": number})
            case "ordered":
                trace.ordered("Verb", name, number, at(ms))
            case "answered":
                trace.answered("Verb", name, number, at(ms), error=name if number > 1 else None)
            case "renewed":
                trace.renewed(at(ms))
            case _:
                trace.about({f"key {name}": number})


def never() -> Attributes:
    raise AssertionError("nobody wants to see this flow")


@given(st.lists(calls, max_size=40), st.lists(calls, max_size=5), st.sampled_from([None, CALLER]))
@settings(max_examples=100, deadline=None)
def test_a_flow_that_is_kept_has_the_spans_it_would_have_had_from_the_beginning(
    before: Script, after: Script, parent: SpanContext | None
) -> None:
    late, early = TailTrace(FLOW, parent, at(0), ALL), FlowTrace(FLOW, parent, at(0))

    for trace in (late, early):
        play(trace, before)
        trace.ended("finished", at(60), {"tokens": 3})
        play(trace, after)

    assert late.drain() == early.drain()
    assert late.drain() == []


@given(st.lists(calls, max_size=40))
@settings(max_examples=50, deadline=None)
def test_looking_at_it_shows_the_same_and_changes_nothing(script: Script) -> None:
    watched, early = TailTrace(FLOW, None, at(0), ALL), FlowTrace(FLOW, None, at(0))
    for call in script:
        play(watched, [call])
        play(early, [call])
        assert watched.so_far(at(50)) == early.so_far(at(50))

    for trace in (watched, early):
        trace.ended("finished", at(60))

    assert watched.drain() == early.drain()


def test_of_a_flow_that_nobody_wants_to_see_nothing_is_ever_made() -> None:
    trace = TailTrace(FLOW, None, at(0), FAILED)

    trace.about(never)
    trace.moved("Idle", "Submitted", "Generating", at(0), never)
    trace.ordered("StartGenerate", "e0", 1, at(0))
    trace.answered("StartGenerate", "e0", 1, at(5), never)
    trace.ended("finished", at(5), never)
    trace.ordered("Release", "e0", 1, at(6))

    assert trace.drain() == []
    assert trace.so_far(at(7)) == ()


def test_what_there_is_to_say_is_asked_for_when_it_is_kept() -> None:
    trace = TailTrace(FLOW, None, at(0), FAILED)

    trace.about(lambda: {"model": "m"})
    trace.moved("Idle", "Submitted", "Generating", at(0), lambda: {"chosen": ("e0",)})
    trace.ended("failed", at(5), lambda: {"tokens": 3}, "it broke")

    (root,) = (span for span in trace.drain() if span.parent is None)
    assert root.attributes["model"] == "m"
    assert root.attributes["tokens"] == 3
    assert root.events[0].attributes["chosen"] == ("e0",)
    assert root.error == "it broke"


def test_nothing_goes_out_before_the_end() -> None:
    trace = TailTrace(FLOW, None, at(0), ALL)
    trace.ordered("Query", "e0", 1, at(0))
    trace.answered("Query", "e0", 1, at(1))

    assert trace.drain() == []

    trace.ended("finished", at(2))
    assert [span.name for span in trace.drain()] == ["send Query", "microserve.request"]


def test_only_the_first_end_decides() -> None:
    trace = TailTrace(FLOW, None, at(0), FAILED)

    trace.ended("finished", at(1))
    trace.ended("failed", at(2), error="too late")

    assert trace.drain() == []


def test_a_flow_that_goes_on_for_ever_is_bounded_as_every_flow() -> None:
    trace = TailTrace(FLOW, None, at(0), ALL)
    told: list[Attributes] = []

    def tell() -> Attributes:
        told.append({})
        return {}

    for number in range(3 * MAX_NOTES):
        trace.moved("A", "Event", "A", at(number), tell)
        assert number - len(told) < MAX_NOTES  # so many are notes still

    trace.ended("finished", at(10_000))

    (root,) = trace.drain()
    assert len(root.events) == MAX_EVENTS
    assert root.attributes["microserve.dropped_events"] == 3 * MAX_NOTES - MAX_EVENTS
