from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observability.spans import (
    SpanContext,
    derive,
    parse_traceparent,
    trace_id_of,
    traceparent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"

contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1).map("{:032x}".format),
    st.integers(1, 2**64 - 1).map("{:016x}".format),
    st.booleans(),
)
labels = st.lists(st.one_of(st.text(max_size=12), st.integers(0, 99)), max_size=4)


def test_the_example_of_the_standard_is_read() -> None:
    found = parse_traceparent({"traceparent": GOOD})

    assert found == SpanContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_the_headers_name_counts_in_any_case(name: str) -> None:
    assert parse_traceparent({"other": "x", name: GOOD}) is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        GOOD + "-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01more",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-\u0660\u0661",
    ],
)
def test_a_malformed_header_is_as_good_as_none(value: str) -> None:
    assert parse_traceparent({"traceparent": value}) is None


@pytest.mark.parametrize("headers", [None, {}, {"tracestate": "a=b"}])
def test_without_the_header_there_is_no_parent(headers: dict[str, str] | None) -> None:
    assert parse_traceparent(headers) is None


def test_a_later_version_may_say_more_than_we_read() -> None:
    found = parse_traceparent({"traceparent": f"cc-{TRACE}-{SPAN}-03-what-comes-then"})

    assert found == SpanContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False)])
def test_only_the_first_flag_says_sampled(flags: str, sampled: bool) -> None:
    found = parse_traceparent({"traceparent": f"00-{TRACE}-{SPAN}-{flags}"})

    assert found is not None
    assert found.sampled is sampled


@given(contexts)
@settings(max_examples=50)
def test_what_is_written_is_read_back(context: SpanContext) -> None:
    assert parse_traceparent(traceparent(context)) == context


@given(st.text(max_size=60))
@settings(max_examples=100)
def test_no_header_raises(value: str) -> None:
    parse_traceparent({"traceparent": value})


@given(contexts, labels)
@settings(max_examples=50)
def test_a_derived_id_is_one_the_standard_allows(
    context: SpanContext, given_labels: list[str | int]
) -> None:
    derived = SpanContext(context.trace_id, derive(context.trace_id, *given_labels))

    assert parse_traceparent(traceparent(derived)) == derived


@given(labels, labels)
@settings(max_examples=100)
def test_ids_are_equal_where_the_labels_are(one: list[str | int], other: list[str | int]) -> None:
    same = [str(label) for label in one] == [str(label) for label in other]

    assert (derive(TRACE, *one) == derive(TRACE, *other)) is same


def test_labels_do_not_run_together() -> None:
    assert derive(TRACE, "ab", "c") != derive(TRACE, "a", "bc") != derive(TRACE, "abc")


def test_the_same_labels_mean_another_span_in_another_trace() -> None:
    assert derive(TRACE, "a") != derive("1" * 32, "a")


def test_a_span_id_is_the_same_in_every_process() -> None:
    assert derive(TRACE, "flow", "send", 1) == "4973b2dde644f53e"


def test_a_flow_that_can_be_a_trace_id_is_one() -> None:
    assert trace_id_of(TRACE) == TRACE


@given(st.text(max_size=40))
@settings(max_examples=50)
def test_any_flow_has_a_trace_id_that_the_standard_allows(flow: str) -> None:
    context = SpanContext(trace_id_of(flow), SPAN)

    assert parse_traceparent(traceparent(context)) == context
