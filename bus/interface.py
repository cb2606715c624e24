"""What every actor may ask of the broker, and what it may rely on.

Two implementations pass one conformance suite: `bus.nats.NatsBus` and `bus.memory.MemoryBus`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from msgspec import Struct

Headers: TypeAlias = Mapping[str, str]


class BusError(Exception):
    """The family of everything that the bus raises."""


class NoResponders(BusError):
    """Nobody listens on the subject: the fastest sign that a peer is gone."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody listens on {subject!r}")
        self.subject = subject


class RequestTimedOut(BusError):
    """Somebody may have heard the request, and no reply came in time."""

    def __init__(self, subject: str, timeout_s: float) -> None:
        super().__init__(f"no reply on {subject!r} within {timeout_s:g} s")
        self.subject, self.timeout_s = subject, timeout_s


class PayloadTooLarge(BusError):
    """The broker would not take a message of this size; nothing was sent."""

    def __init__(self, subject: str, num_bytes: int, max_payload: int) -> None:
        super().__init__(
            f"{num_bytes} bytes for {subject!r}: the broker takes at most {max_payload}"
        )
        self.subject, self.num_bytes, self.max_payload = subject, num_bytes, max_payload


class BadSubject(BusError):
    """The subject is not one a message may be published to, or a subscription made on."""

    def __init__(self, subject: str, why: str) -> None:
        super().__init__(f"bad subject {subject[:80]!r}: {why}")
        self.subject = subject


class Disconnected(BusError):
    """There is no connection and no room left to keep the message until there is one."""


class Message(Struct, frozen=True, gc=False):
    """One message as it was received."""

    subject: str
    payload: bytes
    reply: str = ""
    """Where the sender wants an answer; empty where it wants none."""
    headers: dict[str, str] = {}


Handler: TypeAlias = Callable[[Message], Awaitable[None]]


class SubscriptionStatistics(Struct, frozen=True):
    subject: str
    received: int
    dropped: int
    """Messages lost because the handler was too slow for them."""
    failed: int
    """Handler calls that raised; each was logged, and the subscription went on."""
    pending: int


class BusStatistics(Struct, frozen=True):
    connected: bool
    published: int
    published_bytes: int
    received: int
    reconnects: int
    dropped: int
    errors: int
    """Complaints of the broker, such as permission violations; each was logged."""


class Service(Struct, frozen=True):
    """How an actor presents itself to the broker's service discovery (``nats micro ls``)."""

    name: str
    version: str
    description: str = ""
    metadata: dict[str, str] = {}


class Subscription(Protocol):
    async def unsubscribe(self) -> None:
        """No handler call starts after this returns; one in progress is awaited (unless it is
        this very handler that unsubscribes). Calling it again does nothing."""
        ...

    def statistics(self) -> SubscriptionStatistics: ...


class Bus(Protocol):
    """A connection to the broker. Use as ``async with``; leaving drains and closes.

    Guarantees:
        * At most once: a message is delivered once or not at all; nothing is retried here.
        * Order: messages of one publisher reach one subscription in the order they were published.
          Between two subscriptions there is no order.
        * One subscription's handler runs one message at a time. An exception in it is logged and
          counted, and the next message is handled.
        * A subscription holds a bounded number of messages for a slow handler; what comes on top
          is dropped, counted and logged, never an exception in the publisher.
        * Of the members of one queue group, exactly one receives each message.
        * Wildcards, ``*`` (one token) and ``>`` (the rest), are for `subscribe` only.
        * A lost connection comes back by itself, with all subscriptions.
    """

    @property
    def max_payload(self) -> int:
        """Bytes that one message may have, as the broker says."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: Headers | None = None
    ) -> None:
        """Hand over one message; returning does not mean that it has been sent.

        Raises:
            PayloadTooLarge, BadSubject, Disconnected: nothing was sent.
        """
        ...

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Headers | None = None
    ) -> Message:
        """Publish and wait for the first reply.

        Raises:
            NoResponders: at once, where nobody is subscribed.
            RequestTimedOut: no reply within ``timeout_s``.
            PayloadTooLarge, BadSubject, Disconnected: nothing was sent.
        """
        ...

    async def subscribe(
        self, subject: str, handler: Handler, *, queue: str = "", max_pending: int = 65_536
    ) -> Subscription:
        """Call ``handler`` for every message from now on: when this returns, the broker knows of
        the subscription, so that what anyone publishes later arrives."""
        ...

    def inbox(self) -> str:
        """A new subject that nobody else uses and that needs no quoting."""
        ...

    async def flush(self) -> None:
        """Returns when the broker has received everything published before."""
        ...

    async def announce(self, service: Service) -> None:
        """Answer the broker's service discovery until this bus is closed."""
        ...

    def statistics(self) -> BusStatistics: ...
