"""An encoded export on its way by HTTP, over a connection that is kept."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import Final

import requests

from .otlp_connection import Compression, Connection

CONTENT_TYPE: Final = "application/x-protobuf"
COMPRESSED: Final[dict[Compression, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}


class HttpTransport:
    """Posts to ``url``. Proxies and further certificates are found as `requests` finds them, for
    each post: it is not worth a thought as long as there is one a second."""

    def __init__(self, url: str, connection: Connection, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._compress = COMPRESSED.get(connection.compression)
        self._session = requests.Session()
        self._session.verify = connection.certificate or True
        self._session.cert = _client(connection)
        self._session.headers.update({"Content-Type": CONTENT_TYPE, **connection.headers})
        if self._compress:
            self._session.headers["Content-Encoding"] = connection.compression

    def send(self, export: bytes) -> str | None:
        """None, or why the collector did not take it."""
        body = self._compress(export) if self._compress else export
        deadline_s = monotonic() + self._timeout_s
        try:
            return self._post(body, self._timeout_s)
        except requests.Timeout:
            return f"no answer within {self._timeout_s:g} s"
        except requests.ConnectionError:
            # A kept connection that the collector has closed meanwhile says so only now.
            return self._again(body, deadline_s - monotonic())
        except requests.RequestException as error:
            return str(error)

    def close(self) -> None:
        """A post that is in progress returns within its time."""
        self._session.close()

    def _again(self, body: bytes, within_s: float) -> str | None:
        try:
            return self._post(body, max(within_s, 0.001))
        except requests.RequestException as error:
            return str(error)

    def _post(self, body: bytes, within_s: float) -> str | None:
        answer = self._session.post(self._url, data=body, timeout=within_s, allow_redirects=False)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return None
        return f"{answer.status_code} {answer.reason}"


def _client(connection: Connection) -> str | tuple[str, str] | None:
    if connection.client_certificate and connection.client_key:
        return connection.client_certificate, connection.client_key
    return connection.client_certificate
