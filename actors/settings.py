"""The one place that reads the environment. Everything below gets its settings as arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct


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
        nats_server=environment.get("NATS_SERVER_BIN"),
        api_keys=_listed(environment.get("MICROSERVE_API_KEYS", "")),
        operator_keys=_listed(environment.get("MICROSERVE_OPERATOR_KEYS", "")),
        jaeger_url=environment.get("MICROSERVE_JAEGER_URL", "http://localhost:16686"),
    )


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
