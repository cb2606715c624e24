"""Chooses where spans go, from a configuration that was read at the edge."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from .sink import NullSink, OtlpProtocol, SpanSink
from .store import MAX_SPANS, TraceStore
from .store_sink import StoreSink


class TracingConfig(Struct, frozen=True):
    """A collector's endpoint wins over a store; with neither, spans are dropped."""

    service: str
    """Names the spans that do not name theirs."""
    endpoint: str = ""
    protocol: OtlpProtocol = "http/protobuf"
    timeout_s: float = 1.0
    store: Path | None = None
    max_spans: int = MAX_SPANS


def open_sink(config: TracingConfig) -> SpanSink:
    """The sink that ``config`` asks for; whoever opens it closes it.

    Raises:
        TracingError: the endpoint is no address, or the store cannot be used.
    """
    if config.endpoint:
        return _otlp(config)
    if config.store is not None:
        return StoreSink(TraceStore(config.store, config.max_spans))
    return NullSink()


def _otlp(config: TracingConfig) -> SpanSink:
    """Imported here, since OpenTelemetry's exporters take a noticeable part of a start."""
    from .otlp import OtlpSink

    return OtlpSink(config.endpoint, config.protocol, config.service, config.timeout_s)
