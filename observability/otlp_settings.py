"""What OpenTelemetry's variables say of how spans get to a collector, besides its address."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import inf
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from opentelemetry.sdk import environment_variables as names
from opentelemetry.util.re import parse_env_headers

from .batching import Batching

logger = logging.getLogger(__name__)

Compression: TypeAlias = Literal["none", "gzip", "deflate"]

COMPRESSIONS: Final[dict[str, Compression]] = {
    "": "none",
    "none": "none",
    "gzip": "gzip",
    "deflate": "deflate",
}


class Connection(Struct, frozen=True):
    """Files are paths of PEM files; None where there is none."""

    headers: dict[str, str] = {}
    """Sent with every export; their names are in lower case."""
    certificate: str | None = None
    """Of who may sign the collector's certificate; None leaves it to the system's."""
    client_key: str | None = None
    client_certificate: str | None = None
    compression: Compression = "none"
    """Off unless it is asked for: on a fast network it costs more than it saves."""


BATCHING: Final = Batching(max_batch=512, interval_s=5.0)
"""What OpenTelemetry's own processor waits for. A post costs as much as 50 spans, whatever is in
it."""


def batching(environment: Mapping[str, str]) -> Batching:
    """What is no number, or none above 0, is as if it were not given."""
    given = _Given(environment)
    delay_ms = given.number(names.OTEL_BSP_SCHEDULE_DELAY)
    return Batching(
        int(given.number(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE)) or BATCHING.max_batch,
        delay_ms / 1000 or BATCHING.interval_s,
        int(given.number(names.OTEL_BSP_MAX_QUEUE_SIZE)) or BATCHING.max_pending,
    )


def connection(environment: Mapping[str, str]) -> Connection:
    """Of traces; what was said for traces goes before what was said for all signals."""
    given = _Given(environment)
    return Connection(
        dict(
            parse_env_headers(
                given.first(
                    names.OTEL_EXPORTER_OTLP_TRACES_HEADERS, names.OTEL_EXPORTER_OTLP_HEADERS
                ),
                liberal=True,
            )
        ),
        given.path(
            names.OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE, names.OTEL_EXPORTER_OTLP_CERTIFICATE
        ),
        given.path(names.OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY, names.OTEL_EXPORTER_OTLP_CLIENT_KEY),
        given.path(
            names.OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE,
            names.OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE,
        ),
        _compression(
            given.first(
                names.OTEL_EXPORTER_OTLP_TRACES_COMPRESSION, names.OTEL_EXPORTER_OTLP_COMPRESSION
            )
        ),
    )


class _Given(Struct, frozen=True):
    environment: Mapping[str, str]

    def first(self, *variables: str) -> str:
        return next(filter(None, map(self.environment.get, variables)), "")

    def number(self, variable: str) -> float:
        """0 where there is none."""
        try:
            number = float(self.first(variable))
        except ValueError:
            return 0.0
        return number if 0 < number < inf else 0.0

    def path(self, *variables: str) -> str | None:
        return self.first(*variables) or None


def _compression(given: str) -> Compression:
    known = COMPRESSIONS.get(given.strip().lower())
    if known is None:
        allowed = ", ".join(filter(None, COMPRESSIONS))
        logger.warning("OTLP compression %r is none of %s: none is used", given, allowed)
    return known or "none"
