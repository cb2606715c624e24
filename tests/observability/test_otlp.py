from __future__ import annotations

import logging
import threading
from time import monotonic

import pytest

from observability.batching import Batching
from observability.endpoint import BadEndpoint, address, split
from observability.otlp import OtlpSink
from observability.otlp_settings import UnreadableFiles
from observability.sink import OtlpProtocol
from observability.spans import Link, Span, SpanContext, SpanEvent

from .collectors import (
    Opener,
    Received,
    decoded,
    grpc_collector,
    http_collector,
    nobody,
    silence,
)
from .scripted import CALLER, FLOW, at, cancelled, disaggregated, failed

RECEIVERS: list[tuple[OtlpProtocol, Opener]] = [
    ("http/protobuf", http_collector),
    ("grpc", grpc_collector),
]
PROTOCOLS: list[OtlpProtocol] = ["http/protobuf", "grpc"]


def exported(spans: list[Span], protocol: OtlpProtocol, opener: Opener) -> list[Received]:
    with opener() as collector:
        sink = OtlpSink(collector.endpoint, protocol, "test")
        sink.record(spans)
        sink.close()
        received = collector.receive(len(spans))
        assert sink.statistics().written == len(spans)
    return received


def by_id(received: list[Received]) -> dict[str, Received]:
    return {r.span.span_id.hex(): r for r in received}


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_a_collector_gets_the_tree_as_it_was_made(protocol: OtlpProtocol, opener: Opener) -> None:
    spans = disaggregated(parent=CALLER)

    received = by_id(exported(spans, protocol, opener))

    assert len(received) == len(spans)
    for span in spans:
        got = received[span.context.span_id].span
        assert got.name == span.name
        assert got.trace_id.hex() == CALLER.trace_id
        assert got.parent_span_id.hex() == (span.parent.span_id if span.parent else "")
        assert got.start_time_unix_nano == pytest.approx(span.begin_s * 1e9, abs=1000)
        assert got.end_time_unix_nano == pytest.approx(span.end_s * 1e9, abs=1000)


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_a_collector_gets_attributes_events_and_services(
    protocol: OtlpProtocol, opener: Opener
) -> None:
    received = exported(disaggregated(), protocol, opener)

    named = {r.span.name: r for r in received}
    root, transfer = named["microserve.request"], named["kv.transfer"]
    assert root.service == "microserve-router"
    assert root.span.kind == root.span.SPAN_KIND_SERVER
    assert named["send RemoteSend"].span.kind == root.span.SPAN_KIND_PRODUCER
    assert named["process RemoteSend"].span.kind == root.span.SPAN_KIND_CONSUMER
    told = decoded(root.span.attributes)
    assert told["microserve.flow"] == FLOW
    assert told["gen_ai.usage.output_tokens"] == 32
    assert told["gen_ai.response.finish_reasons"] == ["length"]
    assert [decoded(e.attributes)["event"] for e in root.span.events] == [
        "Submitted", "Prepared", "Sent", "Started", "Finished",
    ]  # fmt: skip
    assert root.span.events[3].time_unix_nano == pytest.approx(at(470) * 1e9, abs=1000)
    assert transfer.service == "microserve-engine-e0"
    told = decoded(transfer.span.attributes)
    assert told["microserve.kv.bytes"] == 47_185_920
    assert told["microserve.kv.seconds_exposed"] == 0.04


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_a_collector_sees_what_failed(protocol: OtlpProtocol, opener: Opener) -> None:
    received = exported(failed(), protocol, opener)

    wrong = {r.span.name: r.span.status.message for r in received if r.span.status.code == 2}
    assert set(wrong) == {
        "microserve.request", "Sending", "send RemoteSend", "process RemoteSend",
    }  # fmt: skip
    assert set(wrong.values()) == {"transfer_failed: e1 is gone"}


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_links_and_the_default_service_are_exported(protocol: OtlpProtocol, opener: Opener) -> None:
    context = SpanContext("1" * 32, "2" * 16)
    link = Link(CALLER, {"microserve.link": "previous attempt"})
    event = SpanEvent("noted", at(1), {"why": "because"})
    span = Span(context, None, "x", "client", at(0), at(2), {}, (event,), (link,))

    (got,) = exported([span], protocol, opener)

    assert got.service == "test"
    assert got.span.links[0].span_id.hex() == CALLER.span_id
    assert decoded(got.span.links[0].attributes) == {"microserve.link": "previous attempt"}
    assert decoded(got.span.events[0].attributes) == {"why": "because"}


def test_spans_are_sent_in_small_batches() -> None:
    with http_collector() as collector:
        sink = OtlpSink(collector.endpoint, batches=Batching(max_batch=4))
        for _ in range(3):
            sink.record(disaggregated())
        assert len(collector.receive(51)) == 51
        sink.close()

    assert sink.statistics().pending == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_is_down_costs_spans_and_one_line(
    protocol: OtlpProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    with nobody() as endpoint, caplog.at_level(logging.WARNING):
        sink = OtlpSink(endpoint, protocol)
        for _ in range(20):
            sink.record(cancelled())
        began = monotonic()
        sink.close()
        took_s = monotonic() - began

    assert took_s < 3.0
    statistics = sink.statistics()
    assert statistics.dropped == statistics.recorded > 0
    assert len(caplog.records) == 1
    assert "spans are being lost" in caplog.text


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_collector_that_never_answers_does_not_keep_us(protocol: OtlpProtocol) -> None:
    with silence() as endpoint:
        sink = OtlpSink(endpoint, protocol)
        began = monotonic()
        sink.record(cancelled())
        recorded_s = monotonic() - began
        sink.close()
        took_s = monotonic() - began

    assert recorded_s < 0.5
    assert took_s < 3.5
    assert sink.statistics().written == 0


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_closing_leaves_no_thread_of_ours(protocol: OtlpProtocol, opener: Opener) -> None:
    with opener() as collector:
        sink = OtlpSink(collector.endpoint, protocol)
        sink.record(cancelled())
        sink.close()
        sink.close()

    assert not [t for t in threading.enumerate() if t.name.startswith("otlp")]


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost:4318",
        "http://",
        "http://host:port",
        "http://my host:4318",
        "ftp://host",
        "nonsense",
    ],
)
def test_an_endpoint_that_is_no_address_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(BadEndpoint, match="give http://host:port") as caught:
        OtlpSink(endpoint)

    assert caught.value.endpoint == endpoint


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("variable", ["CERTIFICATE", "CLIENT_CERTIFICATE"])
def test_a_certificate_that_cannot_be_read_is_told_at_once(
    protocol: OtlpProtocol, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{variable}", "/not/there.pem")

    with pytest.raises(UnreadableFiles, match=r"cannot use /not/there.pem: .*No such file"):
        OtlpSink("https://host:4318", protocol)


def test_no_password_and_no_key_of_an_address_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with nobody() as endpoint, caplog.at_level(logging.DEBUG):
        sink = OtlpSink(endpoint.replace("http://", "http://me:secret@") + "?key=secret")
        sink.record(cancelled())
        sink.close()

    assert f"otlp {endpoint}/v1/traces: spans are being lost" in caplog.text
    assert "secret" not in caplog.text


def test_an_address_has_a_port_in_any_case() -> None:
    assert address(split("http://[::1]")) == ("::1", 80)
    assert address(split("https://me@host")) == ("host", 443)
    assert address(split("https://[::1]:4318")) == ("::1", 4318)


@pytest.mark.parametrize("path", ["", "/", "/v1/traces", "/v1/traces/"])
def test_the_path_of_http_is_added_where_it_is_missing(path: str) -> None:
    with http_collector() as collector:
        sink = OtlpSink(collector.endpoint + path)
        sink.record(cancelled())
        sink.close()
        assert collector.receive(6)
