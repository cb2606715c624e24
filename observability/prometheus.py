"""Points in Prometheus' text format, under the names that OpenTelemetry's own exporters give.

Dots become underscores, a unit is written out and appended, a counter ends in ``_total``:
``gen_ai.server.request.duration`` in ``s`` is ``gen_ai_server_request_duration_seconds``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from .metrics import Distribution, Instrument, Labels, Point

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
UNITS: Final = {"s": "seconds", "By": "bytes"}


def metric_name(instrument: Instrument) -> str:
    name = instrument.name.replace(".", "_")
    unit = UNITS.get(instrument.unit)
    if unit and not name.endswith(unit):
        name += f"_{unit}"
    return f"{name}_total" if instrument.kind == "counter" else name


def series_names(instrument: Instrument) -> tuple[str, ...]:
    """What a query can ask for."""
    name = metric_name(instrument)
    if instrument.kind == "histogram":
        return f"{name}_bucket", f"{name}_sum", f"{name}_count"
    return (name,)


def text(points: Iterable[Point]) -> str:
    """Each instrument's points together, with its help and type."""
    together: dict[str, list[Point]] = {}
    for point in points:
        together.setdefault(point.instrument.name, []).append(point)
    lines: list[str] = []
    for some in together.values():
        instrument, name = some[0].instrument, metric_name(some[0].instrument)
        lines.append(f"# HELP {name} {instrument.description}")
        lines.append(f"# TYPE {name} {instrument.kind}")
        for point in some:
            lines += _lines(name, point)
    return "\n".join([*lines, ""])


def _lines(name: str, point: Point) -> Iterator[str]:
    if not isinstance(point.value, Distribution):
        yield f"{name}{_braced(point.labels)} {point.value:.17g}"
        return
    total = 0
    bounds = (*map(str, point.instrument.bounds), "+Inf")
    for bound, count in zip(bounds, point.value.counts, strict=True):
        total += count
        yield f"{name}_bucket{_braced({**point.labels, 'le': bound})} {total}"
    yield f"{name}_sum{_braced(point.labels)} {point.value.sum:.9g}"
    yield f"{name}_count{_braced(point.labels)} {total}"


def _braced(labels: Labels) -> str:
    pairs = [f'{name.replace(".", "_")}="{_escaped(value)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
