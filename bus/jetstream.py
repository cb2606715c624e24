"""Buckets in JetStream, by its own wire protocol over any `Bus` that is connected to a NATS server.

A bucket is a stream ``KV_<bucket>`` of the subjects ``$KV.<bucket>.<key>``, as all NATS clients and
``nats kv`` know it. It is read by direct gets only: a consumer's deliveries carry the subject that
they were published on, not the one that was subscribed to, and `bus.nats` refuses such messages
(see `SturdyClient`). Needs a server of 2.11 or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from .buckets import BucketConfig, Entry, StoreFailed, Watcher, WrongRevision, check_key
from .buckets import check_key_pattern as check_pattern
from .codec import encode_json
from .interface import Bus, Message
from .jetstream_reads import PATIENCE_S, Stored
from .jetstream_watch import JetStreamWatch

NAME_IN_USE: Final = 10058
WRONG_REVISION: Final = (10071, 10164)
DUPLICATES_NS: Final = 120_000_000_000


class JetStreamBuckets:
    """The buckets of the broker that ``bus`` is connected to. Owns nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def bucket(self, config: BucketConfig) -> JetStreamKeyValue:
        stream = f"KV_{config.name}"
        question = encode_json(_stream(stream, config))
        subject = f"$JS.API.STREAM.CREATE.{stream}"
        reply = _read(await self._bus.request(subject, question, timeout_s=PATIENCE_S))
        if (error := reply.get("error")) and error.get("err_code") != NAME_IN_USE:
            raise StoreFailed(f"no bucket {config.name!r}: {error.get('description')}")
        return JetStreamKeyValue(self._bus, config.name)


class JetStreamKeyValue:
    """`bus.buckets.KeyValue`. Made by `JetStreamBuckets.bucket` only."""

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus, self._name = bus, name
        self._stored = Stored(bus, name)

    async def get(self, key: str) -> Entry | None:
        entry = await self._newest(key)
        return None if entry is None or entry.deleted else entry

    async def put(self, key: str, value: bytes) -> int:
        return await self._write(key, value)

    async def create(self, key: str, value: bytes) -> int:
        newest = await self._newest(key)
        if newest is not None and not newest.deleted:
            raise WrongRevision(self._name, key, 0)
        return await self._write_at(key, value, newest.revision if newest else 0, asked=0)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._write_at(key, value, revision, asked=revision)

    async def delete(self, key: str) -> None:
        await self._write(key, b"", {"KV-Operation": "DEL"})

    async def history(self, key: str) -> list[Entry]:
        check_key(key)
        return await self._stored.since(0, key)

    async def entries(self, pattern: str = ">") -> list[Entry]:
        check_pattern(pattern)
        return [entry for entry in await self._stored.newest(pattern) if not entry.deleted]

    async def watch(self, watcher: Watcher, pattern: str = ">") -> JetStreamWatch:
        check_pattern(pattern)
        watch = JetStreamWatch(self._bus, self._stored, pattern, watcher)
        await watch.start()
        return watch

    async def _newest(self, key: str) -> Entry | None:
        check_key(key)
        found = await self._stored.newest(key)
        return found[0] if found else None

    async def _write_at(self, key: str, value: bytes, revision: int, asked: int) -> int:
        try:
            expected = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
            return await self._write(key, value, expected)
        except _Conflict:
            raise WrongRevision(self._name, key, asked) from None

    async def _write(self, key: str, value: bytes, headers: Mapping[str, str] | None = None) -> int:
        check_key(key)
        subject = f"$KV.{self._name}.{key}"
        reply = _read(
            await self._bus.request(subject, value, timeout_s=PATIENCE_S, headers=headers)
        )
        if error := reply.get("error"):
            words = f"{key!r} in {self._name!r}: {error.get('description')}"
            raise (_Conflict if error.get("err_code") in WRONG_REVISION else StoreFailed)(words)
        return int(reply["seq"])


class _Conflict(StoreFailed):
    """Somebody else wrote first."""


def _stream(stream: str, config: BucketConfig) -> dict[str, Any]:
    return {
        "name": stream,
        "subjects": [f"$KV.{config.name}.>"],
        "max_msgs_per_subject": config.history,
        "max_bytes": config.max_bytes,
        "max_msgs": -1,
        "max_consumers": -1,
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": 1,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "duplicate_window": DUPLICATES_NS,
    }


def _read(reply: Message) -> dict[str, Any]:
    """Raises: StoreFailed: that is no answer of JetStream's."""
    try:
        return msgspec.json.decode(reply.payload, type=dict[str, Any])
    except msgspec.DecodeError:
        raise StoreFailed(f"an answer from {reply.subject!r} that nobody can read") from None
