"""Keeps a router's catalog as the bucket says it should be, and the bucket as the router found it.

A version that cannot be loaded here is withdrawn like one that fails in service: other routers run
the same program and would not get further.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from bus.buckets import Entry
from bus.codec import Undecodable, encode_json
from bus.interface import Bus, BusError, Subscription
from bus.subjects import Subjects
from orchestrations.registry import holds_policy, load_policy_text, load_text
from orchestrations.source import BadStrategy

from .catalog import Deciding, Found, Serving
from .effects import Withdraw
from .guard import Guard
from .inputs import Activated, Loaded, RouterInput, Unloadable
from .version_store import VersionStore, read
from .versions import Version

logger = logging.getLogger("microserve.router")


class Notice(Struct, frozen=True):
    """Published where a version was withdrawn, as JSON."""

    name: str
    version: int
    router: str
    reason: str


class Versioning:
    """For one router. ``feed`` hands an event to its core."""

    def __init__(
        self, store: VersionStore, bus: Bus, feed: Callable[[RouterInput], Awaitable[None]]
    ) -> None:
        self._store, self._bus, self._feed = store, bus, feed
        self._guard = Guard()
        self._watch: Subscription | None = None

    async def start(self) -> None:
        """Returns when the core knows all that there is. Without the store a router serves with
        what is installed."""
        try:
            self._watch = await self._store.watch(self._on_entry)
        except BusError as error:
            logger.warning("no versions of orchestrations: %s", error)

    async def stop(self) -> None:
        if self._watch is not None:
            await self._watch.unsubscribe()

    async def withdraw(self, withdraw: Withdraw, router: str, subjects: Subjects) -> None:
        """Tell everybody. Where the store is away, only this router knows."""
        ref, reason = withdraw.ref, withdraw.reason
        logger.error("orchestration %s is withdrawn: %s", ref, reason)
        notice = encode_json(Notice(ref.name, ref.number, router, reason))
        try:
            await self._bus.publish(subjects.withdrawn, notice)
            await self._store.withdraw(ref, reason)
        except (BusError, Undecodable) as error:
            logger.warning("%s is withdrawn here only: %s", ref, error)

    async def _on_entry(self, entry: Entry) -> None:
        try:
            told = read(entry)
        except Undecodable as error:
            logger.warning("unreadable entry %r: %s", entry.key, error)
            return
        if isinstance(told, Version):
            await self._load(told)
        elif told is not None:
            await self._feed(Activated(*told))

    async def _load(self, version: Version) -> None:
        try:
            found = self._found(version)
        except BadStrategy as error:
            logger.error("version %s cannot be loaded: %s", version.ref, error)
            await self._feed(Unloadable(version.ref, str(error)))
            return
        await self._feed(Loaded(found))

    def _found(self, version: Version) -> Found:
        """Raises: BadStrategy: it cannot be loaded."""
        ref, text, path = version.ref, version.text, f"{version.name}.py"
        if holds_policy(text, path):
            return Deciding(ref, self._guard.limited(load_policy_text(text, path)))
        return Serving(ref, self._guard.limited(load_text(text, path)))
