"""Spans out of the house by OTLP, to Jaeger or whatever collector there is.

OpenTelemetry's names and variables hold: its resource, its headers and certificates. Its tracer,
processor and exporter are not used: our spans are finished values when they get here, and made
straight into bytes they cost a router a sixth of what its exporter takes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from time import sleep
from typing import Final, Protocol

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from .batching import Batcher, Batching
from .endpoint import export_url, shown
from .otlp_encoding import SpanEncoder, request
from .otlp_settings import Connection, UnreadableFiles, batching, connection
from .sink import OtlpProtocol, SinkStatistics
from .spans import Attribute, Span

TRACES_PATH: Final = "/v1/traces"
NAMESPACE: Final = "microserve"

ENCODED_AT_ONCE: Final = 32
"""Then whoever waits for the interpreter's lock has it. An event loop is a third of a millisecond
late in the middle, and not the five that a whole batch takes."""
PAUSE_S: Final = 1e-4
"""A pause of nothing would give the lock to nobody: who gave it back would take it again."""


class Transport(Protocol):
    """A way to one collector."""

    def send(self, export: bytes) -> str | None:
        """An ``ExportTraceServiceRequest``: None, or why it was not taken. Returns in bounded
        time, and raises nothing that has to do with the other side."""
        ...

    def close(self) -> None: ...


class OtlpSink:
    """A `SpanSink` that exports by OTLP from a thread of its own.

    ``endpoint`` is ``http(s)://host:port``; the path ``/v1/traces`` is added for http/protobuf.
    ``service`` names the spans that do not name theirs. ``timeout_s`` is for one batch, and bounds
    what `close` may take. A collector that is down costs spans and one line in the log, no more.

    Raises:
        BadEndpoint, BadProxy, UnreadableFiles: at construction.
    """

    def __init__(
        self,
        endpoint: str,
        protocol: OtlpProtocol = "http/protobuf",
        service: str = NAMESPACE,
        timeout_s: float = 1.0,
        batches: Batching | None = None,
    ) -> None:
        url = export_url(endpoint, protocol, TRACES_PATH)
        transport = _transport(url, protocol, connection(os.environ), timeout_s)
        writer = _Exporting(transport, service)
        self._batcher = Batcher(f"otlp {shown(url)}", writer, batches or batching(os.environ))

    def record(self, spans: Sequence[Span]) -> None:
        self._batcher.record(spans)

    def close(self) -> None:
        self._batcher.close()

    def statistics(self) -> SinkStatistics:
        return self._batcher.statistics()


class _Exporting:
    """The batcher's writer: encodes a batch and hands it to a transport."""

    def __init__(self, transport: Transport, service: str) -> None:
        self._transport, self._service = transport, service
        self._encoder = SpanEncoder()
        self._resource = OTELResourceDetector().detect()

    def write(self, spans: Sequence[Span]) -> str | None:
        made: dict[str, list[bytes]] = {}
        for begin in range(0, len(spans), ENCODED_AT_ONCE):
            if begin:
                sleep(PAUSE_S)
            for span in spans[begin : begin + ENCODED_AT_ONCE]:
                made.setdefault(span.service or self._service, []).append(self._encoder.span(span))
        services = [self._encoder.service_spans(self._told(s), few) for s, few in made.items()]
        return self._transport.send(request(services))

    def close(self) -> None:
        self._transport.close()

    def _told(self, service: str) -> Mapping[str, Attribute]:
        """Of the resource: what ``OTEL_RESOURCE_ATTRIBUTES`` says, and whose spans they are."""
        own = Resource({"service.name": service, "service.namespace": NAMESPACE})
        return {key: str(value) for key, value in self._resource.merge(own).attributes.items()}


def _transport(
    url: str, protocol: OtlpProtocol, reached: Connection, timeout_s: float
) -> Transport:
    """Only the protocol in use is imported: they take a noticeable part of a start."""
    try:
        if protocol == "grpc":
            from .otlp_grpc import GrpcTransport

            return GrpcTransport(url, reached, timeout_s)
        from .otlp_http import HttpTransport

        return HttpTransport(url, reached, timeout_s)
    except OSError as error:
        raise UnreadableFiles(reached, str(error)) from error
