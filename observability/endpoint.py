"""A collector's address, as OpenTelemetry's variables give it, made the URL to export to."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .sink import OtlpProtocol, TracingError

PORTS: Final = {"http": 80, "https": 443}


class BadEndpoint(TracingError, ValueError):
    """The collector's address cannot be one."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"OTLP endpoint {endpoint!r} is not an address: give http://host:port or "
            "https://host:port (usually port 4318 for http/protobuf, 4317 for grpc)"
        )
        self.endpoint = endpoint


def export_url(endpoint: str, protocol: OtlpProtocol, path: str) -> str:
    """``endpoint`` with the signal's ``path``, such as ``/v1/traces``; gRPC needs none.

    Raises:
        BadEndpoint: it has no scheme or no host, or its port is none.
    """
    try:
        parts = split(endpoint)
    except ValueError:
        raise BadEndpoint(endpoint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadEndpoint(endpoint)
    if protocol == "grpc":
        return urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    whole = parts.path.rstrip("/").removesuffix(path) + path
    return urlunsplit((parts.scheme, parts.netloc, whole, parts.query, ""))


def shown(url: str) -> str:
    """For the log: without a user, a password and a query, where keys are."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host(parts), parts.path, "", ""))


def host(parts: SplitResult) -> str:
    """With its port, where it has one, and without a user and a password."""
    return parts.netloc.rpartition("@")[2]


def address(parts: SplitResult) -> tuple[str, int]:
    """With a port in any case: `http.client` would look for one in an IPv6 address."""
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, PORTS["http"])


def split(url: str) -> SplitResult:
    """
    Raises:
        ValueError: its host or its port cannot be one.
    """
    parts = urlsplit(url)
    _ = parts.port  # Looked at only here, where it raises for what is no number.
    if not parts.netloc.isprintable() or " " in parts.netloc:
        raise ValueError(parts.netloc)
    return parts
