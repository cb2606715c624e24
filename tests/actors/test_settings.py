"""What the environment says."""

from __future__ import annotations

from math import inf

import pytest

from actors.settings import from_environment
from observability.sampling import Sampling

COLLECTOR = "http://c:4318"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Sampling()),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampling(0.0, follows_callers=False)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Sampling(0.0)),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"},
            Sampling(0.1),
        ),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"},
            Sampling(1.0, follows_callers=False),
        ),
        ({"OTEL_SDK_DISABLED": "true"}, Sampling(0.0)),
        (
            {"MICROSERVE_TRACE_SLOWER_THAN_S": "2.5", "MICROSERVE_TRACE_FAILED": "1"},
            Sampling(slower_than_s=2.5, failed=True),
        ),
        ({"MICROSERVE_TRACE_SLOWER_THAN_S": "soon"}, Sampling(slower_than_s=inf)),
    ],
)
def test_the_samplers_are_opentelemetrys(given: dict[str, str], expected: Sampling) -> None:
    assert from_environment(given).sampling == expected


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": COLLECTOR, "OTEL_METRICS_EXPORTER": "otlp"}, COLLECTOR),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1"}, "http://m:1"),
    ],
)
def test_metrics_are_exported_where_that_is_said(
    given: dict[str, str], endpoint: str | None
) -> None:
    assert from_environment(given).metrics_endpoint == endpoint


def test_metrics_are_exported_every_so_many_milliseconds() -> None:
    assert from_environment({"OTEL_METRIC_EXPORT_INTERVAL": "5000"}).metrics_interval_s == 5.0
    assert from_environment({"OTEL_METRIC_EXPORT_INTERVAL": "often"}).metrics_interval_s == 15.0


def test_logs_are_for_people_where_nothing_else_is_said() -> None:
    assert from_environment({}).logs.style == "human"
    assert from_environment({"MICROSERVE_LOG_FORMAT": "json"}).logs.style == "json"
    assert from_environment({"MICROSERVE_LOG_LEVEL": "info"}).logs.level == "INFO"
    assert from_environment({"MICROSERVE_LOG_LEVEL": "chatty"}).logs.level == "WARNING"
