"""OpenTelemetry's variables, as we read them."""

from __future__ import annotations

import logging

import pytest

from observability.batching import Batching
from observability.otlp_settings import BATCHING, Connection, batching, connection

P = "OTEL_EXPORTER_OTLP_"


def test_without_variables_nothing_is_added() -> None:
    assert connection({}) == Connection()
    assert batching({}) == BATCHING == Batching(512, 5.0, 4096)


def test_what_is_said_for_traces_goes_before_what_is_said_for_all() -> None:
    found = connection(
        {
            f"{P}HEADERS": "Authorization=Basic%20abc,x-all=1",
            f"{P}TRACES_HEADERS": "Api-Key=secret, x-team=a b",
            f"{P}CERTIFICATE": "/all.pem",
            f"{P}TRACES_CERTIFICATE": "/traces.pem",
            f"{P}CLIENT_KEY": "/key.pem",
            f"{P}CLIENT_CERTIFICATE": "/client.pem",
            f"{P}COMPRESSION": "gzip",
        }
    )

    assert found == Connection(
        {"api-key": "secret", "x-team": "a b"}, "/traces.pem", "/key.pem", "/client.pem", "gzip"
    )


def test_headers_of_all_signals_are_those_of_traces() -> None:
    assert connection({f"{P}HEADERS": "authorization=Bearer%20t"}).headers == {
        "authorization": "Bearer t"
    }


def test_an_unknown_compression_is_told_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = connection({f"{P}TRACES_COMPRESSION": "zstd"})

    assert found.compression == "none"
    assert "'zstd' is none of none, gzip, deflate" in caplog.text


def test_batches_are_as_their_variables_say() -> None:
    given = {
        "OTEL_BSP_SCHEDULE_DELAY": "250",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64",
        "OTEL_BSP_MAX_QUEUE_SIZE": "1000",
    }

    assert batching(given) == Batching(64, 0.25, 1000)


@pytest.mark.parametrize("given", ["", "soon", "-1", "0", "inf", "nan", "0.5"])
def test_a_batch_that_cannot_be_is_as_if_nothing_were_said(given: str) -> None:
    assert batching({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": given}) == BATCHING
