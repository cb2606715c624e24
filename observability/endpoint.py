"""A collector's address, as OpenTelemetry's variables give it, made the URL to export to."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit, urlunsplit

from .sink import OtlpProtocol, TracingError


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
    parts = _split(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadEndpoint(endpoint)
    if protocol == "grpc":
        return urlunsplit((parts.scheme, parts.netloc, "", "", ""))
    whole = parts.path.rstrip("/").removesuffix(path) + path
    return urlunsplit((parts.scheme, parts.netloc, whole, parts.query, ""))


def _split(endpoint: str) -> SplitResult:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port  # Looked at only here, where it raises for what is no number.
    except ValueError:
        raise BadEndpoint(endpoint) from None
    return parts
