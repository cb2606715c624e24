"""An encoded export on its way by HTTP, over one connection that is kept.

The standard library's client, since a post by `requests` takes three times its CPU: more than the
spans that are in it, where few come.
"""

from __future__ import annotations

import contextlib
import gzip
import ssl
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, socket
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .endpoint import address, host, split
from .otlp_settings import Compression, Connection
from .sink import TracingError

CONTENT_TYPE: Final = "application/x-protobuf"
COMPRESSED: Final[dict[Compression, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
}
STALE: Final = (
    ConnectionResetError,
    BrokenPipeError,
    ConnectionAbortedError,
    ssl.SSLEOFError,
)
"""What a kept connection says that the collector has closed meanwhile; a response that ends before
its first byte is a `ConnectionResetError`, too."""


class BadProxy(TracingError, ValueError):
    """Its address, which may have a password in it, is not quoted."""

    def __init__(self, scheme: str) -> None:
        super().__init__(
            f"what {scheme.upper()}_PROXY names is not an address: give http://host:port"
        )
        self.scheme = scheme


class HttpTransport:
    """Posts to ``url``, through the proxy that the environment names for it, if any.

    Raises:
        BadProxy: the proxy's address cannot be one.
        OSError: a certificate or key cannot be read.
    """

    def __init__(self, url: str, connection: Connection, timeout_s: float) -> None:
        to = urlsplit(url)
        proxy = _proxy(to)
        self._timeout_s, self._is_closed = timeout_s, False
        self._posting = threading.Lock()
        self._connection = _connect(to, proxy, connection, timeout_s)
        self._target = _path(to)
        self._compress = COMPRESSED.get(connection.compression)
        self._headers = {
            "content-type": CONTENT_TYPE,
            **_authorization(to, "authorization"),
            **connection.headers,
        }
        if self._compress:
            self._headers["content-encoding"] = connection.compression
        if proxy and to.scheme == "http":
            self._target = f"http://{host(to)}{self._target}"
            self._headers |= _authorization(proxy, "proxy-authorization")

    def send(self, export: bytes) -> str | None:
        """None, or why the collector did not take it."""
        body = self._compress(export) if self._compress else export
        try:
            with self._posting:
                return self._post(body)
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except (OSError, HTTPException) as error:
            return str(error) or type(error).__name__

    def close(self) -> None:
        """Interrupts a post that is in progress; what is sent after this is refused."""
        self._is_closed = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # The socket's own: with TLS, its subclass's takes the encryption off first, and
                # what a post writes just then would go out in the clear.
                socket.shutdown(sock, SHUT_RDWR)
        # Its number must not be somebody else's while a post still reads from it.
        if self._posting.acquire(timeout=self._timeout_s):
            self._connection.close()
            self._posting.release()

    def _post(self, body: bytes) -> str | None:
        is_kept = self._connection.sock is not None
        try:
            return self._once(body)
        except STALE:
            if not is_kept:
                raise
            return self._once(body)

    def _once(self, body: bytes) -> str | None:
        if self._is_closed:
            return "it was closed"
        try:
            self._connection.request("POST", self._target, body, self._headers)
            with self._connection.getresponse() as answer:
                answer.read()
        except BaseException:
            self._connection.close()  # Whatever it would say next belongs to this post.
            raise
        return None if answer.status < 300 else f"{answer.status} {answer.reason}"


def _connect(
    to: SplitResult, proxy: SplitResult | None, connection: Connection, timeout_s: float
) -> HTTPConnection:
    """Nothing is sent yet."""
    at = address(proxy or to)
    if to.scheme == "http":
        return HTTPConnection(*at, timeout=timeout_s)
    trusted = ssl.create_default_context(cafile=connection.certificate)
    if connection.client_certificate:
        trusted.load_cert_chain(connection.client_certificate, connection.client_key)
    secure = HTTPSConnection(*at, timeout=timeout_s, context=trusted)
    if proxy:
        secure.set_tunnel(*address(to), _authorization(proxy, "proxy-authorization"))
    return secure


def _proxy(to: SplitResult) -> SplitResult | None:
    found = getproxies().get(to.scheme, "")
    if not found or proxy_bypass(host(to)):
        return None
    try:
        proxy = split(found if "://" in found else f"http://{found}")
    except ValueError:
        raise BadProxy(to.scheme) from None
    return proxy if proxy.hostname else None


def _authorization(at: SplitResult, name: str) -> dict[str, str]:
    if not at.username:
        return {}
    given = f"{unquote(at.username)}:{unquote(at.password or '')}"
    return {name: f"Basic {b64encode(given.encode()).decode()}"}


def _path(to: SplitResult) -> str:
    return f"{to.path}?{to.query}" if to.query else to.path
