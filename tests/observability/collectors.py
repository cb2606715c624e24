"""Real OTLP receivers, one for each protocol, that decode the official protobufs."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from queue import Queue
from typing import Any, TypeAlias

import grpc  # type: ignore[import-untyped]
from msgspec import Struct
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.test._otlp_test_server import OtlpProtoTestServer

DEADLINE_S = 10.0


class Received(Struct):
    """One span as it came over the wire."""

    span: Span
    service: str


class Collector(Struct):
    """A receiver that is up."""

    endpoint: str
    receive: Callable[[int], list[Received]]
    """Waits for so many spans, or raises."""


class Measured(Struct):
    """One instrument as it came over the wire."""

    metric: Metric
    resource: dict[str, object]


class MetricsCollector(Struct):
    """A receiver of metrics that is up."""

    endpoint: str
    receive: Callable[[int], list[Measured]]
    """Waits for so many instruments, or raises."""


MetricsOpener: TypeAlias = Callable[[], AbstractContextManager[MetricsCollector]]
Opener: TypeAlias = Callable[[], AbstractContextManager[Collector]]


def decoded(values: Any) -> dict[str, object]:
    """OTLP's attributes as a dict."""
    pairs: list[KeyValue] = list(values)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, str(kind))


@contextmanager
def http_collector() -> Iterator[Collector]:
    with OtlpProtoTestServer() as server:

        def receive(count: int) -> list[Received]:
            return [
                Received(r.span, str(decoded(r.resource.attributes)["service.name"]))
                for r in server.get_spans(count, timeout=DEADLINE_S)
            ]

        yield Collector(f"http://127.0.0.1:{server.port}", receive)


class _Servicer(TraceServiceServicer):
    def __init__(self) -> None:
        self.received: Queue[Received] = Queue()

    def Export(  # noqa: N802 - the name is the protocol's
        self, request: ExportTraceServiceRequest, context: object
    ) -> ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = str(decoded(resource.resource.attributes)["service.name"])
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.received.put(Received(span, service))
        return ExportTraceServiceResponse()


@contextmanager
def grpc_collector() -> Iterator[Collector]:
    servicer = _Servicer()
    with _grpc_server() as (server, endpoint):
        add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        server.start()

        def receive(count: int) -> list[Received]:
            return [servicer.received.get(timeout=DEADLINE_S) for _ in range(count)]

        yield Collector(endpoint, receive)


@contextmanager
def http_metrics() -> Iterator[MetricsCollector]:
    with OtlpProtoTestServer() as server:

        def receive(count: int) -> list[Measured]:
            found = [server.get_metric(timeout=DEADLINE_S) for _ in range(count)]
            return [Measured(m.metric, decoded(m.resource.attributes)) for m in found]

        yield MetricsCollector(f"http://127.0.0.1:{server.port}", receive)


class _MetricsServicer(MetricsServiceServicer):
    def __init__(self) -> None:
        self.received: Queue[Measured] = Queue()

    def Export(  # noqa: N802 - the name is the protocol's
        self, request: ExportMetricsServiceRequest, context: object
    ) -> ExportMetricsServiceResponse:
        for resource in request.resource_metrics:
            told = decoded(resource.resource.attributes)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self.received.put(Measured(metric, told))
        return ExportMetricsServiceResponse()


@contextmanager
def grpc_metrics() -> Iterator[MetricsCollector]:
    servicer = _MetricsServicer()
    with _grpc_server() as (server, endpoint):
        add_MetricsServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        server.start()

        def receive(count: int) -> list[Measured]:
            return [servicer.received.get(timeout=DEADLINE_S) for _ in range(count)]

        yield MetricsCollector(endpoint, receive)


@contextmanager
def _grpc_server() -> Iterator[tuple[Any, str]]:
    """A server that has not been started, and its address."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        try:
            yield server, f"http://127.0.0.1:{port}"
        finally:
            server.stop(None).wait(DEADLINE_S)


@contextmanager
def nobody() -> Iterator[str]:
    """An address where connections are refused."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@contextmanager
def silence() -> Iterator[str]:
    """An address where connections are made and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
