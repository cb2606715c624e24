"""Spans out of the house by OTLP, to Jaeger or whatever collector there is.

Beside `otlp_metrics` the one file that knows OpenTelemetry. Our spans become its `ReadableSpan`,
and its own exporters encode and send them; its tracer, processor and context are not used, since
our spans are finished values when they get here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import requests
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from .batching import Batcher, Batching
from .endpoint import export_url
from .quiet import QuietThread
from .sink import OtlpProtocol, SinkStatistics
from .spans import Kind, Link, Span, SpanContext, SpanEvent

TRACES_PATH: Final = "/v1/traces"
NAMESPACE: Final = "microserve"

BATCHING: Final = Batching(interval_s=0.25)
"""A request costs as much as 16 spans: where few come, it waits for more of them."""

KINDS: Final[dict[Kind, trace.SpanKind]] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


class OtlpSink:
    """A `SpanSink` that exports by OTLP from a thread of its own.

    ``endpoint`` is ``http(s)://host:port``; the path ``/v1/traces`` is added for http/protobuf.
    ``service`` names the spans that do not name theirs. ``timeout_s`` is for one batch, and bounds
    what `close` may take. A collector that is down costs spans and one line in the log, no more.

    Raises:
        BadEndpoint: at construction.
    """

    def __init__(
        self,
        endpoint: str,
        protocol: OtlpProtocol = "http/protobuf",
        service: str = NAMESPACE,
        timeout_s: float = 1.0,
        batching: Batching | None = None,
    ) -> None:
        url = export_url(endpoint, protocol, TRACES_PATH)
        writer = _Exporting(_exporter(url, protocol, timeout_s), service)
        self._batcher = Batcher(f"otlp {url}", writer, batching or BATCHING)

    def record(self, spans: Sequence[Span]) -> None:
        self._batcher.record(spans)

    def close(self) -> None:
        self._batcher.close()

    def statistics(self) -> SinkStatistics:
        return self._batcher.statistics()


class _Exporting:
    """The batcher's writer: translates a batch and hands it to an exporter."""

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        self._exporter = exporter
        self._service = service
        self._resources: dict[str, Resource] = {}
        self._quiet = QuietThread()

    def write(self, spans: Sequence[Span]) -> str | None:
        self._quiet.begin()
        translated = [readable(span, self._resource(span)) for span in spans]
        if self._exporter.export(translated) is SpanExportResult.SUCCESS:
            return None
        return self._quiet.last or "the collector did not take them"

    def close(self) -> None:
        self._exporter.shutdown()
        self._quiet.close()

    def _resource(self, span: Span) -> Resource:
        service = span.service or self._service
        known = self._resources.get(service)
        if known is None:
            known = self._resources[service] = Resource(
                {"service.name": service, "service.namespace": NAMESPACE}
            )
        return known


def _exporter(url: str, protocol: OtlpProtocol, timeout_s: float) -> SpanExporter:
    """Only the protocol in use is imported: gRPC alone takes half a second."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (
            OTLPSpanExporter as GrpcExporter,
        )

        return GrpcExporter(url, insecure=url.startswith("http:"), timeout=timeout_s)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
        OTLPSpanExporter as HttpExporter,
    )

    return HttpExporter(url, timeout=timeout_s, session=_session(url))


def _session(url: str) -> requests.Session:
    """One that does not look for proxies and passwords before every request, where there are no
    proxies: that took a third of an export."""
    session = requests.Session()
    session.trust_env = bool(requests.utils.get_environ_proxies(url))
    return session


def readable(span: Span, resource: Resource) -> ReadableSpan:
    """The same span as the SDK has it."""
    return ReadableSpan(
        span.name,
        context=_context(span.context),
        parent=_context(span.parent, _is_remote(span)) if span.parent else None,
        resource=resource,
        attributes=dict(span.attributes),
        events=[_event(event) for event in span.events],
        links=[_link(link) for link in span.links],
        kind=KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(),
        start_time=_nanoseconds(span.begin_s),
        end_time=_nanoseconds(span.end_s),
        instrumentation_scope=InstrumentationScope(NAMESPACE),
    )


def _context(context: SpanContext, is_remote: bool = False) -> trace.SpanContext:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if context.sampled else 0)
    return trace.SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote, trace_flags=flags
    )


def _is_remote(span: Span) -> bool:
    return span.kind in ("server", "consumer")


def _event(event: SpanEvent) -> Event:
    return Event(event.name, dict(event.attributes), _nanoseconds(event.at_s))


def _link(link: Link) -> trace.Link:
    return trace.Link(_context(link.context), dict(link.attributes))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
