"""The one place that reads the environment. Everything below gets its settings as arguments, but
for OpenTelemetry's of the way to a collector: `observability.otlp` reads them, as its SDK would."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from observability.logs import LogConfig, Style
from observability.sampling import Sampling

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_INTERVAL_S = 15.0
"""Between two exports of metrics."""


class Settings(Struct, frozen=True):
    """What all commands share."""

    nats_url: str | None
    """None: nothing configured; `up` and `demo` start a server, others look for theirs."""
    namespace: str
    state_dir: Path
    """Traces and the address of a running local fleet."""
    cache_dir: Path
    """Converted models."""
    otlp_endpoint: str | None
    otlp_protocol: Literal["http/protobuf", "grpc"]
    libucp: str | None
    fleet_key: str | None
    nats_server: str | None = None
    jaeger_url: str = "http://localhost:16686"
    """Where `microserve trace --open` looks for a trace."""

    metrics_endpoint: str | None = None
    """Of a collector that takes metrics; many take traces only, so it has to be said."""
    metrics_interval_s: float = DEFAULT_INTERVAL_S

    logs: LogConfig = LogConfig()
    sampling: Sampling = Sampling()
    """Which flows are traced."""

    api_keys: tuple[str, ...] = ()
    """Of the gateway; none lets everybody in."""
    operator_keys: tuple[str, ...] = ()
    """Of the gateway: who may read on its live page what others ask."""

    @property
    def trace_store(self) -> Path:
        return self.state_dir / "traces.db"

    @property
    def recordings(self) -> Path:
        """What happened to the recent flows of this machine's routers."""
        return self.state_dir / "flows.db"

    @property
    def running(self) -> Path:
        """Where `microserve up` leaves its server's URL for the other commands."""
        return self.state_dir / "running.json"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings, from ``MICROSERVE_*`` and the standard ``OTEL_*`` and ``XDG_*`` variables."""
    home = Path(environment.get("HOME") or "~").expanduser()
    state = Path(environment.get("XDG_STATE_HOME") or home / ".local/state") / "microserve"
    cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "microserve"
    protocol = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    return Settings(
        nats_url=environment.get("MICROSERVE_NATS_URL"),
        namespace=environment.get("MICROSERVE_NAMESPACE", "ms"),
        state_dir=Path(environment.get("MICROSERVE_STATE_DIR") or state),
        cache_dir=Path(environment.get("MICROSERVE_CACHE_DIR") or cache),
        otlp_endpoint=environment.get("OTEL_EXPORTER_OTLP_ENDPOINT"),
        otlp_protocol="grpc" if protocol == "grpc" else "http/protobuf",
        libucp=environment.get("MICROSERVE_LIBUCP"),
        fleet_key=environment.get("MICROSERVE_FLEET_KEY"),
        metrics_endpoint=_metrics_endpoint(environment),
        metrics_interval_s=_seconds(environment.get("OTEL_METRIC_EXPORT_INTERVAL")),
        nats_server=environment.get("NATS_SERVER_BIN"),
        logs=LogConfig(_style(environment.get("MICROSERVE_LOG_FORMAT")), _level(environment)),
        sampling=_sampling(environment),
        api_keys=_listed(environment.get("MICROSERVE_API_KEYS", "")),
        operator_keys=_listed(environment.get("MICROSERVE_OPERATOR_KEYS", "")),
        jaeger_url=environment.get("MICROSERVE_JAEGER_URL", "http://localhost:16686"),
    )


def _metrics_endpoint(environment: Mapping[str, str]) -> str | None:
    """OpenTelemetry's variables, but that traces alone do not mean metrics, too: Jaeger refuses
    them."""
    if own := environment.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"):
        return own
    wanted = environment.get("OTEL_METRICS_EXPORTER", "") == "otlp"
    return environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") if wanted else None


def _seconds(milliseconds: str | None) -> float:
    """What is no number, or none above 0, is as if it were not given."""
    return max(_number(milliseconds, 0.0), 0.0) / 1000 or DEFAULT_INTERVAL_S


def _style(given: str | None) -> Style:
    return "json" if given == "json" else "human"


def _level(environment: Mapping[str, str]) -> str:
    given = environment.get("MICROSERVE_LOG_LEVEL", "").upper()
    return given if given in LEVELS else "WARNING"


def _sampling(environment: Mapping[str, str]) -> Sampling:
    """OpenTelemetry's head samplers, and of our own what is kept at the end in any case."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Sampling(0.0)
    name = environment.get("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    kind = name.removeprefix("parentbased_")
    given = _number(environment.get("OTEL_TRACES_SAMPLER_ARG"), 1.0)
    ratio = {"always_off": 0.0, "traceidratio": min(max(given, 0.0), 1.0)}.get(kind, 1.0)
    return Sampling(
        ratio,
        kind != name,
        _number(environment.get("MICROSERVE_TRACE_SLOWER_THAN_S"), inf),
        environment.get("MICROSERVE_TRACE_FAILED", "") in ("1", "true"),
    )


def _number(given: str | None, default: float) -> float:
    """What is no number is as if it were not given."""
    try:
        return float(given or "")
    except ValueError:
        return default


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def grant_key(settings: Settings, url: str) -> bytes:
    """The key that signs KV grants: as configured, else from the secret that the fleet shares
    already, the broker's credentials in the URL."""
    if settings.fleet_key:
        return sha256(b"microserve fleet " + settings.fleet_key.encode()).digest()
    parts = urlsplit(url)
    secret = f"{parts.username or ''}:{parts.password or ''}"
    return sha256(b"microserve broker " + secret.encode()).digest()
