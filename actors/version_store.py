"""Versions of strategies at the broker: where routers find them, and operators change them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from bus.buckets import BucketConfig, Buckets, Entry, KeyValue, WrongRevision
from bus.codec import decode, encode
from bus.interface import Subscription

from .versions import (
    Activation,
    Ref,
    Version,
    activated,
    rolled_back,
    slot_key,
    slot_of,
    version_key,
    without,
)

HISTORY: Final = 64
MAX_TRIES: Final = 16
"""Of a change that others' changes come in between of."""


class UnknownVersion(LookupError):
    """There is no such version; the text says which there are."""

    def __init__(self, name: str, number: int | None, known: list[int]) -> None:
        wanted = f"{name}@{number}" if number is not None else name
        there = ", ".join(f"{name}@{n}" for n in known) or "none: load its file first"
        super().__init__(f"no version {wanted}; there are {there}")


class Change(Struct, frozen=True):
    """One line of a slot's history."""

    at_s: float
    activation: Activation


class VersionStore:
    """The bucket of one namespace. Every method may raise what `KeyValue` does."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    @staticmethod
    async def open(buckets: Buckets, namespace: str) -> VersionStore:
        config = BucketConfig(f"{namespace}_orchestrations", HISTORY)
        return VersionStore(await buckets.bucket(config))

    # --- versions -------------------------------------------------------------------------------

    async def add(self, name: str, text: str, origin: str, verdict: str) -> Version:
        """The next version of this strategy; the last one again where it has the same text."""
        while True:
            known = await self.versions(name)
            if known and known[-1].text == text:
                return known[-1]
            number = known[-1].number + 1 if known else 1
            version = Version(name, number, text, origin, verdict)
            try:
                await self._bucket.create(version_key(version.ref), encode(version))
            except WrongRevision:
                continue  # somebody else has taken the number
            return version

    async def versions(self, name: str) -> list[Version]:
        """All versions of a strategy, oldest first."""
        entries = await self._bucket.entries(f"version.{name}.*")
        return sorted((decode(e.value, Version) for e in entries), key=lambda v: v.number)

    async def find(self, name: str, number: int | None = None) -> Version:
        """One version, the newest where no number is given.

        Raises:
            UnknownVersion
        """
        known = await self.versions(name)
        found = [v for v in known if number is None or v.number == number]
        if not found:
            raise UnknownVersion(name, number, [v.number for v in known])
        return found[-1]

    # --- what serves whom -----------------------------------------------------------------------

    async def active(self, slot: str | None) -> Activation | None:
        entry = await self._bucket.get(slot_key(slot))
        return decode(entry.value, Activation) if entry else None

    async def activate(self, slot: str | None, ref: Ref, share: float = 1.0) -> Activation:
        """Have a share of the slot's new flows served by this version.

        Raises:
            UnknownVersion: it was never loaded.
            BadActivation: the share is not one.
        """
        if ref.number:
            await self.find(ref.name, ref.number)
        return await self._change(slot, lambda now: activated(now, ref, share, installed(slot)))

    async def roll_back(self, slot: str | None) -> Activation:
        """Undo the newest activation of a slot.

        Raises:
            BadActivation: there is none.
        """
        history = [change.activation for change in await self.history(slot)]
        return await self._change(slot, lambda _: rolled_back(history, installed(slot)))

    async def withdraw(self, ref: Ref, reason: str) -> list[str | None]:
        """Take a version out of every slot that it serves; returns those. Again does nothing."""
        changed: list[str | None] = []
        for entry in await self._bucket.entries("active.>"):
            slot = slot_of(entry.key)
            if without(decode(entry.value, Activation), ref, installed(slot), reason) is None:
                continue
            if await self._withdrawn(slot, ref, reason):
                changed.append(slot)
        return changed

    async def history(self, slot: str | None) -> list[Change]:
        """The last 64 changes of a slot, oldest first."""
        entries = await self._bucket.history(slot_key(slot))
        return [Change(e.written_s, decode(e.value, Activation)) for e in entries if not e.deleted]

    async def slots(self) -> list[str | None]:
        """Those that something was ever activated for."""
        return [slot_of(entry.key) for entry in await self._bucket.entries("active.>")]

    async def watch(self, watcher: Callable[[Entry], Awaitable[None]]) -> Subscription:
        """As `KeyValue.watch`, over versions and activations; `read` tells what an entry is."""
        return await self._bucket.watch(watcher)

    async def _withdrawn(self, slot: str | None, ref: Ref, reason: str) -> bool:
        """False where somebody else has done it meanwhile."""
        for _ in range(MAX_TRIES):
            entry = await self._bucket.get(slot_key(slot))
            now = decode(entry.value, Activation) if entry else None
            after = without(now, ref, installed(slot), reason) if now else None
            if entry is None or after is None:
                return False
            try:
                await self._bucket.update(entry.key, encode(after), entry.revision)
            except WrongRevision:
                continue
            return True
        return False

    async def _change(
        self, slot: str | None, decide: Callable[[Activation | None], Activation]
    ) -> Activation:
        """Raises: WrongRevision: others change it all the time."""
        key, tries = slot_key(slot), 0
        while True:
            entry = await self._bucket.get(key)
            after = decide(decode(entry.value, Activation) if entry else None)
            try:
                if entry is None:
                    await self._bucket.create(key, encode(after))
                else:
                    await self._bucket.update(key, encode(after), entry.revision)
            except WrongRevision:
                tries += 1
                if tries == MAX_TRIES:
                    raise
                continue
            return after


def installed(slot: str | None) -> Ref:
    """What serves a slot where nothing else does; of requests that name nothing, only routers know
    which strategy that is."""
    return Ref(slot or "")


def read(entry: Entry) -> Version | tuple[str | None, Activation | None] | None:
    """A version, or a slot and what serves it; None where it is something else.

    Raises:
        Undecodable: it is not what its key says.
    """
    if entry.key.startswith("version."):
        return None if entry.deleted else decode(entry.value, Version)
    if entry.key.startswith("active."):
        return slot_of(entry.key), None if entry.deleted else decode(entry.value, Activation)
    return None
