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


def test_a_batch_is_no_larger_than_the_queue_where_it_waits() -> None:
    assert batching({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}) == Batching(100, 5.0, 100)
    assert batching({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "9999"}) == Batching(4096, 5.0, 4096)


@pytest.mark.parametrize("given", ["", "soon", "-1", "0", "inf", "nan", "0.5", "1e300"])
@pytest.mark.parametrize(
    "variable",
    ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_MAX_QUEUE_SIZE"],
)
def test_a_number_that_cannot_be_is_told_and_as_if_nothing_were_said(
    variable: str, given: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert batching({variable: given}) == BATCHING

    assert (f"{variable}='{given}' is no number from 1" in caplog.text) == bool(given)


@pytest.mark.parametrize(
    "bad",
    [
        "Bearer c2VjcmV0==",
        "secret",
        "api-key=sec;ret",
        'api-key="secret"',
        "api-key=secret%0Amore",
        "api-key=secret%C3%A4",
        "api-key=secretä",
        "a%20b=secret",
    ],
)
def test_a_header_that_cannot_be_sent_is_told_by_its_place_and_never_quoted(
    bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        found = connection({f"{P}HEADERS": f"x-team=a , {bad},, x-more = b=c"})

    assert found.headers == {"x-team": "a", "x-more": "b=c"}
    assert [record.name for record in caplog.records] == ["observability.otlp_settings"]
    assert "header 2 of" in caplog.text
    assert "sec" not in caplog.text
    assert "c2V" not in caplog.text
