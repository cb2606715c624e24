"""Our bytes against the official classes: their SDK's span, their encoder, their parser."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from observability.otlp_encoding import SpanEncoder, nanoseconds, request
from observability.spans import Attribute, Link, Span, SpanContext, SpanEvent

from .scripted import CALLER, at, cancelled, disaggregated, failed

RESOURCE: dict[str, Attribute] = {
    "service.name": "microserve-router",
    "service.namespace": "microserve",
}
KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


def encoded(*spans: Span, encoder: SpanEncoder | None = None) -> bytes:
    encoder = encoder or SpanEncoder()
    return request([encoder.service_spans(RESOURCE, [encoder.span(span) for span in spans])])


def official(*spans: Span) -> ExportTraceServiceRequest:
    return encode_spans([_readable(span) for span in spans])


def _readable(span: Span) -> ReadableSpan:
    """The same span as the SDK has it."""
    is_remote = span.kind in ("server", "consumer")
    return ReadableSpan(
        span.name,
        context=_context(span.context),
        parent=_context(span.parent, is_remote) if span.parent else None,
        resource=Resource(dict(RESOURCE)),
        attributes=dict(span.attributes),
        events=[Event(e.name, dict(e.attributes), nanoseconds(e.at_s)) for e in span.events],
        links=[trace.Link(_context(k.context), dict(k.attributes)) for k in span.links],
        kind=KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(),
        start_time=nanoseconds(span.begin_s),
        end_time=nanoseconds(span.end_s),
        instrumentation_scope=InstrumentationScope("microserve"),
    )


def _context(context: SpanContext, is_remote: bool = False) -> trace.SpanContext:
    return trace.SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote)


def parsed(data: bytes) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(data)
    return request


def assert_same(*spans: Span, encoder: SpanEncoder | None = None) -> None:
    """One message, and the very bytes that the official classes make of it."""
    data, expected = encoded(*spans, encoder=encoder), official(*spans)
    assert parsed(data) == expected
    assert data == expected.SerializeToString(deterministic=True)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
values = st.one_of(
    texts,
    st.booleans(),
    numbers,
    st.floats(allow_nan=False),
    st.lists(texts, max_size=4).map(tuple),
)
attributes: st.SearchStrategy[dict[str, Attribute]] = st.dictionaries(texts, values, max_size=6)
contexts = st.builds(
    lambda trace_id, span_id: SpanContext(f"{trace_id:032x}", f"{span_id:016x}"),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
)
seconds = st.floats(1e-6, 4e9)
spans = st.builds(
    Span,
    contexts,
    st.none() | contexts,
    texts,
    st.sampled_from(sorted(KINDS)),
    seconds,
    seconds,
    attributes,
    st.lists(st.builds(SpanEvent, texts, seconds, attributes), max_size=3).map(tuple),
    st.lists(st.builds(Link, contexts, attributes), max_size=2).map(tuple),
    st.none() | texts,
)


@given(st.lists(spans, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_span_is_what_the_official_classes_make_of_it(some: list[Span]) -> None:
    assert_same(*some)


@given(st.lists(spans, min_size=2, max_size=4))
@settings(max_examples=30, deadline=None)
def test_what_was_encoded_before_changes_nothing(some: list[Span]) -> None:
    encoder = SpanEncoder()

    for span in some + some:
        assert_same(span, encoder=encoder)


@pytest.mark.parametrize("flow", [disaggregated, cancelled, failed])
def test_our_flows_are_what_the_official_classes_make_of_them(
    flow: Callable[[], list[Span]],
) -> None:
    assert_same(*flow())


def test_values_that_are_equal_and_not_the_same_are_told_apart() -> None:
    encoder, values = SpanEncoder(), (1, 1.0, True, 0, 0.0, False, "1", ("1",))

    for value in values + values[::-1]:
        span = Span(CALLER, None, "x", "internal", at(0), at(1), {"a": value})
        assert_same(span, encoder=encoder)


def test_memory_is_bounded_and_what_was_forgotten_comes_out_the_same() -> None:
    encoder = SpanEncoder(max_known=3)

    for number in range(20):
        told: dict[str, Attribute] = {f"key {number % 7}": f"value {number % 5}", "same": "same"}
        assert_same(
            Span(CALLER, None, "x", "internal", at(0), at(1), told, error="e"), encoder=encoder
        )


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, 1 << 80])
def test_a_number_that_is_too_large_is_told_as_a_string(value: int) -> None:
    span = Span(CALLER, None, "x", "internal", at(0), at(1), {"large": value, "next": 1})

    (got,) = parsed(encoded(span)).resource_spans[0].scope_spans[0].spans

    assert got.attributes[0].value.string_value == str(value)
    assert got.attributes[1].value.int_value == 1


def test_half_a_surrogate_pair_costs_a_letter_and_no_span() -> None:
    span = Span(CALLER, None, "x\ud800", "internal", at(0), at(1), {"a": "b\udfff"})

    (got,) = parsed(encoded(span)).resource_spans[0].scope_spans[0].spans

    assert (got.name, got.attributes[0].value.string_value) == ("x?", "b?")


def test_no_number_is_a_number_too() -> None:
    span = Span(CALLER, None, "x", "internal", at(0), at(1), {"a": math.nan})

    (got,) = parsed(encoded(span)).resource_spans[0].scope_spans[0].spans

    assert math.isnan(got.attributes[0].value.double_value)


def test_spans_of_several_services_are_one_request() -> None:
    encoder = SpanEncoder()
    span = encoder.span(Span(CALLER, None, "x", "internal", at(0), at(1)))

    got = parsed(
        request([encoder.service_spans({"service.name": name}, [span, span]) for name in "ab"])
    )

    assert [len(r.scope_spans[0].spans) for r in got.resource_spans] == [2, 2]
    assert [r.resource.attributes[0].value.string_value for r in got.resource_spans] == ["a", "b"]
    assert got.resource_spans[0].scope_spans[0].scope.name == "microserve"
