"""What must outlive a process: buckets of keys and values at the broker, with their history.

Two implementations pass one conformance suite: `bus.jetstream.JetStreamBuckets` and
`bus.memory_buckets.MemoryBuckets`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from msgspec import Struct

from .interface import BusError, Subscription

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_BUCKET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_KEY_LENGTH: Final = 256
MAX_HISTORY: Final = 64


class BadKey(BusError):
    """A key or a bucket's name that cannot be one; nothing was sent."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"bad key {key[:80]!r}: use letters, digits, '_' and '-', with single dots between, "
            f"{MAX_KEY_LENGTH} characters at most"
        )
        self.key = key


class WrongRevision(BusError):
    """The key was changed meanwhile; nothing was written."""

    def __init__(self, bucket: str, key: str, expected: int) -> None:
        found = (
            "it exists already" if expected == 0 else f"it is not at revision {expected} any more"
        )
        super().__init__(f"{key!r} in {bucket!r}: {found}; read it again and decide anew")
        self.bucket, self.key, self.expected = bucket, key, expected


class StoreFailed(BusError):
    """The broker keeps nothing, or would not keep this; the text has its words."""


class BucketConfig(Struct, frozen=True):
    """Raises: BadKey, ValueError: the name or a number does not make sense."""

    name: str
    history: int = 1
    """Values of one key that are kept, the newest included; 64 at most."""
    max_bytes: int = -1
    """Of the whole bucket; -1 is no limit. A write that does not fit is refused."""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.name):
            raise BadKey(self.name)
        if not 1 <= self.history <= MAX_HISTORY:
            raise ValueError(f"history={self.history}: give 1 to {MAX_HISTORY}")


class Entry(Struct, frozen=True):
    """One value that a key had or has."""

    key: str
    value: bytes
    revision: int
    """Grows with every write to the bucket, so it orders the changes of all keys."""
    written_s: float
    """Unix seconds, by the broker's clock."""
    deleted: bool = False


Watcher: TypeAlias = Callable[[Entry], Awaitable[None]]


class KeyValue(Protocol):
    """One bucket.

    Guarantees:
        * What a write returned for is read by every later `get`, on this bus or another, as long as
          the broker is one server (a cluster's minority may answer with something older).
        * Of several that `create` or `update` from the same revision, exactly one succeeds.
        * A watcher sees the changes of one key in the order in which they were made. Where it was
          cut off it sees at least the newest value of each key that has changed meanwhile.

    Raises (all of them): BadKey; StoreFailed; and, from the bus below, Disconnected, NoResponders,
    RequestTimedOut, after which a write may have happened or not.
    """

    async def get(self, key: str) -> Entry | None:
        """The newest value; None where there is none, or it was deleted."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Write, whatever is there. Returns the revision."""
        ...

    async def create(self, key: str, value: bytes) -> int:
        """Write where there is nothing, or nothing any more.

        Raises:
            WrongRevision: there is something.
        """
        ...

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Write where ``revision`` is still the newest of this key.

        Raises:
            WrongRevision: it is not.
        """
        ...

    async def delete(self, key: str) -> None:
        """Leave a mark that the key has no value. Again, or without one, does no harm."""
        ...

    async def history(self, key: str) -> list[Entry]:
        """What is kept of a key, oldest first, deletions included."""
        ...

    async def entries(self, pattern: str = ">") -> list[Entry]:
        """The newest values of all keys that match, by revision; without what was deleted."""
        ...

    async def watch(self, watcher: Watcher, pattern: str = ">") -> Subscription:
        """Call ``watcher`` for the newest value of every key that matches, deletions included, and
        then for every change. Returns when it has seen all that there was."""
        ...


class Buckets(Protocol):
    async def bucket(self, config: BucketConfig) -> KeyValue:
        """The bucket of this name, made where there is none. One that exists stays as it is.

        Raises:
            StoreFailed, NoResponders: the broker keeps nothing (JetStream is not enabled).
        """
        ...


def check_key(key: str) -> None:
    """Raises: BadKey."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise BadKey(key)


def check_key_pattern(pattern: str) -> None:
    """A key in which ``*`` may stand for a token and ``>``, at the end, for the rest.

    Raises:
        BadKey
    """
    *most, end = pattern.split(".")
    plain = ["x" if token == "*" else token for token in most]
    check_key(".".join([*plain, "x" if end in ("*", ">") else end]))
