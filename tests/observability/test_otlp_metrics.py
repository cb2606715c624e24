"""Metrics as real receivers decode them, over both protocols."""

from __future__ import annotations

import logging
import socket

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from observability import instruments as of
from observability.endpoint import BadEndpoint
from observability.metrics import Distribution, Point
from observability.otlp_metrics import OtlpMetrics
from observability.sink import OtlpProtocol

from .collectors import (
    DEADLINE_S,
    Measured,
    MetricsOpener,
    decoded,
    grpc_metrics,
    http_metrics,
    nobody,
)

RECEIVERS: list[tuple[OtlpProtocol, MetricsOpener]] = [
    ("http/protobuf", http_metrics),
    ("grpc", grpc_metrics),
]
EXPORTER = "opentelemetry.exporter.otlp.proto.http.metric_exporter"
BEGAN_S = 1_800_000_000.0
ABOUT = {"service.name": "microserve-engine-e0", "service.instance.id": "e0"}
COUNTS = (0,) * 4 + (2,) + (0,) * 9 + (1,)
POINTS = [
    Point(of.PAGES, 7, {"owner": "free"}),
    Point(of.PAGES, 3, {"owner": "used"}),
    Point(of.TRANSFER_BYTES, 4096.0, {"lane": "posix"}),
    Point(of.REQUEST_DURATION, Distribution(COUNTS, 200.5), {"gen_ai.request.model": "m"}),
]


def sent(protocol: OtlpProtocol, opener: MetricsOpener) -> dict[str, Measured]:
    with opener() as collector:
        metrics = OtlpMetrics(collector.endpoint, protocol, ABOUT, BEGAN_S)
        metrics.offer(POINTS, BEGAN_S + 60)
        received = collector.receive(3)
        metrics.close()
    return {measured.metric.name: measured for measured in received}


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_a_collector_gets_gauges_counters_and_histograms(
    protocol: OtlpProtocol, opener: MetricsOpener
) -> None:
    received = sent(protocol, opener)

    pages = received["microserve.engine.pages"].metric
    assert pages.unit == "{page}"
    assert pages.description == of.PAGES.description
    owners = {decoded(p.attributes)["owner"]: p.as_int for p in pages.gauge.data_points}
    assert owners == {"free": 7, "used": 3}

    moved = received["microserve.kv.transfer.size"].metric.sum
    assert moved.is_monotonic
    assert moved.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = moved.data_points
    assert (point.as_double, decoded(point.attributes)) == (4096.0, {"lane": "posix"})
    assert point.start_time_unix_nano == BEGAN_S * 1e9
    assert point.time_unix_nano == (BEGAN_S + 60) * 1e9

    (lasted,) = received["gen_ai.server.request.duration"].metric.histogram.data_points
    assert tuple(lasted.bucket_counts) == COUNTS
    assert tuple(lasted.explicit_bounds) == of.DURATION_BOUNDS_S
    assert (lasted.count, lasted.sum) == (3, 200.5)


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_a_collector_is_told_whose_metrics_they_are(
    protocol: OtlpProtocol, opener: MetricsOpener
) -> None:
    for measured in sent(protocol, opener).values():
        assert measured.resource == {**ABOUT, "service.namespace": "microserve"}


@pytest.mark.parametrize(("protocol", "opener"), RECEIVERS)
def test_what_was_offered_last_is_sent_before_the_end(
    protocol: OtlpProtocol, opener: MetricsOpener
) -> None:
    with opener() as collector:
        metrics = OtlpMetrics(collector.endpoint, protocol, ABOUT, BEGAN_S)
        metrics.offer([Point(of.STEPS, 1)], BEGAN_S)
        collector.receive(1)

        metrics.offer([Point(of.STEPS, 2)], BEGAN_S + 1)
        metrics.close()

        (last,) = collector.receive(1)
    assert last.metric.sum.data_points[0].as_int == 2


def test_a_collector_that_is_away_costs_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with nobody() as endpoint, caplog.at_level(logging.WARNING):
        metrics = OtlpMetrics(endpoint, "http/protobuf", ABOUT, BEGAN_S, timeout_s=0.2)
        metrics.offer([Point(of.STEPS, 1)], BEGAN_S)
        metrics.close()

    assert [r.message for r in caplog.records if "metrics are being lost" in r.message]
    assert len([r for r in caplog.records if r.name.startswith("opentelemetry")]) == 0


def test_the_exporters_loggers_are_left_as_they_were() -> None:
    before = list(logging.getLogger(EXPORTER).filters)

    with nobody() as endpoint:
        metrics = OtlpMetrics(endpoint, "http/protobuf", ABOUT, BEGAN_S, timeout_s=0.2)
        metrics.offer([Point(of.STEPS, 1)], BEGAN_S)
        metrics.close()

    assert logging.getLogger(EXPORTER).filters == before


def test_others_who_use_the_exporters_are_still_heard(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        metrics = OtlpMetrics(address, "http/protobuf", ABOUT, BEGAN_S, timeout_s=0.2)
        metrics.offer([Point(of.STEPS, 1)], BEGAN_S)
        listener.accept()[0].close()  # Now an export is under way.
        logging.getLogger(EXPORTER).error("somebody else's trouble")
        metrics.close()

    assert "somebody else's trouble" in caplog.text


def test_an_address_that_is_none_is_told_at_once() -> None:
    with pytest.raises(BadEndpoint, match="give http://host:port"):
        OtlpMetrics("collector:4318", "http/protobuf", ABOUT, BEGAN_S)
