"""What OpenTelemetry's variables say of how spans get to a collector, besides its address."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from msgspec import Struct
from opentelemetry.sdk import environment_variables as names
from opentelemetry.util.re import parse_env_headers

from .batching import Batching
from .sink import TracingError

logger = logging.getLogger(__name__)

Compression: TypeAlias = Literal["none", "gzip", "deflate"]

COMPRESSIONS: Final[dict[str, Compression]] = {
    "": "none",
    "none": "none",
    "gzip": "gzip",
    "deflate": "deflate",
}


LARGEST: Final = 1e9
"""Of a number: as milliseconds, twelve days."""

_PAIR: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t!#-+\--:<-\[\]-~]*")
"""What OpenTelemetry's parser takes; of what it does not, it would write all into the log."""
_NAME: Final = re.compile(r"[0-9a-z_.-]+")


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


class UnreadableFiles(TracingError):
    """A certificate or a key that a `Connection` names cannot be used."""

    def __init__(self, connection: Connection, why: str) -> None:
        files = (connection.certificate, connection.client_certificate, connection.client_key)
        super().__init__(
            f"cannot use {', '.join(filter(None, files))}: {why}; give PEM files in "
            "OTEL_EXPORTER_OTLP_CERTIFICATE, ..._CLIENT_CERTIFICATE and ..._CLIENT_KEY"
        )
        self.connection, self.why = connection, why


BATCHING: Final = Batching(max_batch=512, interval_s=5.0)
"""What OpenTelemetry's own processor waits for. A post costs as much as 50 spans, whatever is in
it."""


def batching(environment: Mapping[str, str]) -> Batching:
    """What cannot be is told, and as if it were not given. A batch is no larger than the queue:
    what waits for it would be dropped."""
    given = _Given(environment)
    delay_ms = given.number(names.OTEL_BSP_SCHEDULE_DELAY, BATCHING.interval_s * 1000)
    size = int(given.number(names.OTEL_BSP_MAX_EXPORT_BATCH_SIZE, BATCHING.max_batch))
    room = int(given.number(names.OTEL_BSP_MAX_QUEUE_SIZE, BATCHING.max_pending))
    return Batching(min(size, room), delay_ms / 1000, room)


def connection(environment: Mapping[str, str]) -> Connection:
    """Of traces; what was said for traces goes before what was said for all signals."""
    given = _Given(environment)
    return Connection(
        _headers(
            given.first(names.OTEL_EXPORTER_OTLP_TRACES_HEADERS, names.OTEL_EXPORTER_OTLP_HEADERS)
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

    def number(self, variable: str, default: float) -> float:
        """At least 1."""
        given = self.first(variable)
        number = _number(given)
        if number is None and given:
            text = "%s=%r is no number from 1 to %g: it is %g"
            logger.warning(text, variable, given, LARGEST, default)
        return default if number is None else number

    def path(self, *variables: str) -> str | None:
        return self.first(*variables) or None


def _number(given: str) -> float | None:
    try:
        number = float(given)
    except ValueError:
        return None
    return number if 1 <= number <= LARGEST else None


def _headers(given: str) -> dict[str, str]:
    """What cannot be sent is told by its place alone: it is a secret as often as not."""
    headers: dict[str, str] = {}
    for place, pair in enumerate(filter(None, map(str.strip, given.split(","))), 1):
        read = parse_env_headers(pair, liberal=True) if _PAIR.fullmatch(pair) else {}
        sent = {name: value for name, value in read.items() if _can_be_sent(name, value)}
        if not sent:
            text = "header %d of OTEL_EXPORTER_OTLP_HEADERS is not sent: give NAME=VALUE in ASCII"
            logger.warning(text + ", percent-encoded, with commas between", place)
        headers |= sent
    return headers


def _can_be_sent(name: str, value: str) -> bool:
    """By HTTP and by gRPC, which quotes all headers where it cannot send one of them."""
    return bool(_NAME.fullmatch(name)) and value.isascii() and value.isprintable()


def _compression(given: str) -> Compression:
    known = COMPRESSIONS.get(given.strip().lower())
    if known is None:
        allowed = ", ".join(filter(None, COMPRESSIONS))
        logger.warning("OTLP compression %r is none of %s: none is used", given, allowed)
    return known or "none"
