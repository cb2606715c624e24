"""Points out of the house by OTLP, by OpenTelemetry's own exporters.

An actor offers its points from time to time; a thread of the exporter's own sends the newest. What
could not be sent is not kept: counters and histograms grow, so the next ones say it, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from .endpoint import export_url, shown
from .metrics import Distribution, Point
from .quiet import QuietThread
from .sink import OtlpProtocol

logger = logging.getLogger(__name__)

METRICS_PATH: Final = "/v1/metrics"
NAMESPACE: Final = "microserve"
CLOSE_S: Final = 2.0


class OtlpMetrics:
    """``endpoint`` as `OtlpSink`'s; ``resource`` says whose points they are, ``service.name``
    among it. ``timeout_s`` is for one export.

    Raises:
        BadEndpoint: at construction.
    """

    def __init__(
        self,
        endpoint: str,
        protocol: OtlpProtocol,
        resource: Mapping[str, str],
        began_s: float,
        timeout_s: float = 1.0,
    ) -> None:
        url = export_url(endpoint, protocol, METRICS_PATH)
        self._url, self._began_s, self._timeout_s = shown(url), began_s, timeout_s
        self._resource = Resource({"service.namespace": NAMESPACE, **resource})
        self._exporter = _exporter(url, protocol, timeout_s)
        self._changed = threading.Condition()
        self._newest: tuple[Sequence[Point], float] | None = None
        self._closing = self._is_failing = False
        self._thread = threading.Thread(target=self._run, name=f"otlp {self._url}", daemon=True)
        self._thread.start()

    def offer(self, points: Sequence[Point], now: float) -> None:
        """Send these, of the unix second ``now``, as soon as may be; earlier ones that were not
        sent yet are forgotten. Takes microseconds and never raises."""
        with self._changed:
            self._newest = (points, now)
            self._changed.notify()

    def close(self) -> None:
        """Send what was offered last, and end; within about two seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)
        self._exporter.shutdown(timeout_millis=self._timeout_s * 1000)

    def _run(self) -> None:
        quiet = QuietThread()
        while (offered := self._next()) is not None:
            quiet.begin()
            self._note(self._send(*offered), quiet.last)
        quiet.close()

    def _next(self) -> tuple[Sequence[Point], float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._closing)
            newest, self._newest = self._newest, None
            return newest

    def _send(self, points: Sequence[Point], now: float) -> bool:
        data = translated(points, self._resource, (self._began_s, now))
        try:
            return self._exporter.export(data) is MetricExportResult.SUCCESS
        except Exception:  # measuring must cost the actor nothing, not even for a bug here
            logger.exception("%s: metrics could not be exported", self._url)
            return False

    def _note(self, went_well: bool, why: str) -> None:
        if not went_well and not self._is_failing:
            why = why or "the collector did not take them"
            logger.warning("otlp %s: metrics are being lost: %s", self._url, why)
        if went_well and self._is_failing:
            logger.warning("otlp %s: metrics are sent again", self._url)
        self._is_failing = not went_well


def translated(
    points: Iterable[Point], resource: Resource, span_s: tuple[float, float]
) -> MetricsData:
    """The same points as the SDK has them, cumulative from the begin of ``span_s`` to its end."""
    together: dict[str, list[Point]] = {}
    for point in points:
        together.setdefault(point.instrument.name, []).append(point)
    times = (round(span_s[0] * 1e9), round(span_s[1] * 1e9))
    metrics = [_metric(some, times) for some in together.values()]
    scope = ScopeMetrics(InstrumentationScope(NAMESPACE), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(points: Sequence[Point], times: tuple[int, int]) -> Metric:
    instrument = points[0].instrument
    return Metric(instrument.name, instrument.description, instrument.unit, _data(points, times))


def _data(points: Sequence[Point], times: tuple[int, int]) -> Sum | Gauge | HistogramData:
    kind = points[0].instrument.kind
    if kind == "histogram":
        return HistogramData(
            [_distribution(point, times) for point in points], AggregationTemporality.CUMULATIVE
        )
    numbers = [_number(point, times) for point in points]
    if kind == "gauge":
        return Gauge(numbers)
    return Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)


def _number(point: Point, times: tuple[int, int]) -> NumberDataPoint:
    assert not isinstance(point.value, Distribution)
    return NumberDataPoint(dict(point.labels), *times, point.value)


def _distribution(point: Point, times: tuple[int, int]) -> HistogramDataPoint:
    value = point.value
    assert isinstance(value, Distribution)
    return HistogramDataPoint(
        dict(point.labels),
        *times,
        count=value.count,
        sum=value.sum,
        bucket_counts=value.counts,
        explicit_bounds=point.instrument.bounds,
        min=None,  # type: ignore[arg-type]  # optional in the protocol, and we keep neither
        max=None,  # type: ignore[arg-type]
    )


def _exporter(url: str, protocol: OtlpProtocol, timeout_s: float) -> MetricExporter:
    """Only the protocol in use is imported: gRPC alone takes half a second."""
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
            OTLPMetricExporter as GrpcExporter,
        )

        return GrpcExporter(url, insecure=url.startswith("http:"), timeout=timeout_s)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
        OTLPMetricExporter as HttpExporter,
    )

    return HttpExporter(url, timeout=timeout_s)
