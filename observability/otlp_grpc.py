"""An encoded export on its way by gRPC, as the bytes that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]

from .otlp_settings import Connection

EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

OPTIONS: Final = (("grpc.max_reconnect_backoff_ms", 5000),)
"""A collector that comes back is found as soon as the batcher tries again; gRPC's own pauses grow
to two minutes."""

COMPRESSION: Final = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}


class GrpcTransport:
    """Calls the collector at ``url``, with TLS where it is https.

    Raises:
        OSError: a certificate or key cannot be read.
    """

    def __init__(self, url: str, connection: Connection, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._metadata = tuple(connection.headers.items())
        self._channel = _channel(url, connection)
        # Without serializers it takes bytes and gives bytes.
        self._export = self._channel.unary_unary(EXPORT)

    def send(self, export: bytes) -> str | None:
        """None, or why the collector did not take it."""
        try:
            self._export(export, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return None

    def close(self) -> None:
        """Interrupts a call that is in progress."""
        self._channel.close()


def _channel(url: str, connection: Connection) -> Any:
    target, compression = urlsplit(url).netloc, COMPRESSION[connection.compression]
    if not url.startswith("https:"):
        return grpc.insecure_channel(target, OPTIONS, compression)
    files = (connection.certificate, connection.client_key, connection.client_certificate)
    credentials = grpc.ssl_channel_credentials(*map(_content, files))
    return grpc.secure_channel(target, credentials, OPTIONS, compression)


def _content(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None
