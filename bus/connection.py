"""How a NATS connection is configured, and how the first one fails."""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import Struct

from .interface import BusError

_SCHEMES = ("nats", "tls")


class CannotConnect(BusError):
    """The first connection failed. ``url`` is without its secret."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"cannot connect to the broker at {url}: {why}")
        self.url, self.why = url, why


class NatsConfig(Struct, frozen=True, kw_only=True):
    """How to hold a connection. The defaults suit a broker in the same network."""

    connect_timeout_s: float = 5.0
    """How long the first connection is tried; refused credentials end it at once."""
    reconnect_wait_s: float = 0.05
    reconnect_buffer_bytes: int = 2 << 20
    """Published while there is no connection, and sent when there is one again."""
    ping_interval_s: int = 5
    """A broker that leaves two pings unanswered is given up for a new connection."""
    flush_timeout_s: float = 10.0
    drain_timeout_s: float = 5.0
    """How long leaving waits for handlers to see what has arrived."""
    credentials_file: str = ""


def servers(urls: str) -> list[str]:
    """The addresses in ``urls``, which has commas between those of one cluster.

    Raises:
        CannotConnect: one is not ``nats://[TOKEN@]host[:port]`` or ``tls://...``.
    """
    addresses = urls.split(",")
    for url in addresses:
        if not _is_address(url):
            raise CannotConnect(without_secret(url), "use nats://[TOKEN@]host:port")
    return addresses


def without_secret(urls: str) -> str:
    """For messages and logs: what stands before an ``@`` is left out."""
    return ",".join(_public_part(url) for url in urls.split(","))


def _public_part(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def refused_credentials(error: Exception) -> bool:
    text = str(error).lower()
    return "authorization" in text or "authentication" in text


def explain(error: Exception) -> str:
    """Why the first connection failed, and what to do."""
    if refused_credentials(error):
        return "it refused our credentials; give its token as nats://TOKEN@host:port"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there; start a nats-server or give another address"
    if isinstance(error, TimeoutError):
        return "it does not answer; is this the address of a nats-server?"
    return str(error) or type(error).__name__
