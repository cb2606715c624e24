"""What Prometheus reads: histograms of requests as the gateway saw them, and the fleet's beats.

Names are those of OpenTelemetry's GenAI conventions as its Prometheus exporters write them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from bus.messages import Beat

DURATION_S: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48,
                     40.96, 81.92)  # fmt: skip
FIRST_TOKEN_S: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0,
                        2.5, 5.0, 7.5, 10.0)  # fmt: skip
PER_TOKEN_S: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""Bounds as the conventions advise."""
OTHER: Final = "other"


class Histogram:
    """Of one label set. Bounds are upper ends, inclusive."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum:.9g}"
        yield f"{name}_count{{{labels}}} {total}"


class Timed(Struct, frozen=True):
    """One request, when it was over."""

    model: str
    operation: str
    """``chat`` or ``text_completion``."""
    duration_s: float
    first_token_s: float | None
    """From the request to its first token; None where there was none."""
    num_tokens: int
    error: str = ""
    """The HTTP status, or ``cancelled``; empty where it went well."""


_HISTOGRAMS: Final[Mapping[str, tuple[float, ...]]] = {
    "gen_ai_server_request_duration_seconds": DURATION_S,
    "gen_ai_server_time_to_first_token_seconds": FIRST_TOKEN_S,
    "gen_ai_server_time_per_output_token_seconds": PER_TOKEN_S,
}


class Metrics:
    """For one process. Only models that the fleet serves become labels: a stranger's text would
    make as many series as there are strangers."""

    def __init__(self) -> None:
        self._histograms: dict[str, dict[str, Histogram]] = {name: {} for name in _HISTOGRAMS}
        self._tokens: Counter[str] = Counter()
        self.open = 0
        """Requests that are being answered."""

    def observe(self, timed: Timed, known: Iterable[str]) -> None:
        model = timed.model if timed.model in known else OTHER
        labels = _labels({"gen_ai_operation_name": timed.operation, "gen_ai_request_model": model})
        duration = labels + (f',error_type="{timed.error}"' if timed.error else "")
        self._observe("gen_ai_server_request_duration_seconds", duration, timed.duration_s)
        self._tokens[labels] += timed.num_tokens
        first = timed.first_token_s
        if first is None:
            return
        self._observe("gen_ai_server_time_to_first_token_seconds", labels, first)
        if timed.num_tokens > 1:
            each = (timed.duration_s - first) / (timed.num_tokens - 1)
            self._observe("gen_ai_server_time_per_output_token_seconds", labels, each)

    def text(self, beats: Iterable[Beat]) -> str:
        """In Prometheus' text format."""
        lines: list[str] = []
        for name, series in self._histograms.items():
            lines.append(f"# TYPE {name} histogram")
            for labels, histogram in series.items():
                lines += histogram.lines(name, labels)
        lines.append("# TYPE microserve_gateway_output_tokens_total counter")
        for labels, count in self._tokens.items():
            lines.append(f"microserve_gateway_output_tokens_total{{{labels}}} {count}")
        lines.append("# TYPE microserve_gateway_open_requests gauge")
        lines.append(f"microserve_gateway_open_requests {self.open}")
        return "\n".join([*lines, *_fleet(list(beats)), ""])

    def _observe(self, name: str, labels: str, value: float) -> None:
        series = self._histograms[name]
        if labels not in series:
            series[labels] = Histogram(_HISTOGRAMS[name])
        series[labels].observe(value)


_GAUGES: Final = (
    "load",
    "slots",
    "free_pages",
    "total_pages",
    "waiting_tokens",
    "prefill_tokens_per_s",
    "decode_step_s",
    "transfer_bytes_per_s",
)


def _fleet(beats: list[Beat]) -> Iterator[str]:
    for gauge in _GAUGES:
        yield f"# TYPE microserve_engine_{gauge} gauge"
        for beat in beats:
            labels = _labels({"engine": beat.engine, "model": beat.model, "role": beat.role})
            yield f"microserve_engine_{gauge}{{{labels}}} {getattr(beat, gauge):.9g}"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
