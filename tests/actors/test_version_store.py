"""Versions and activations, as several operators and routers change them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count

import pytest

from actors.version_store import UnknownVersion, VersionStore, read
from actors.versions import Activation, BadActivation, Ref, Version
from bus.buckets import Entry
from bus.codec import Undecodable
from bus.jetstream import JetStreamBuckets
from bus.memory_buckets import MemoryBuckets
from bus.nats import NatsBus

Open = Callable[[], AbstractAsyncContextManager[VersionStore]]
_NUMBERS = count(1)


@pytest.fixture(params=["memory", "jetstream"])
def store(request: pytest.FixtureRequest) -> Open:
    namespace = f"versions{next(_NUMBERS)}"
    if request.param == "memory":
        return lambda: _in_memory(namespace)
    url: str = request.getfixturevalue("nats_url")
    return lambda: _at(url, namespace)


@asynccontextmanager
async def _in_memory(namespace: str) -> AsyncIterator[VersionStore]:
    yield await VersionStore.open(MemoryBuckets(), namespace)


@asynccontextmanager
async def _at(url: str, namespace: str) -> AsyncIterator[VersionStore]:
    async with NatsBus(url) as bus:
        yield await VersionStore.open(JetStreamBuckets(bus), namespace)


async def test_versions_are_numbered_and_the_same_text_is_the_same_version(store: Open) -> None:
    async with store() as versions:
        one = await versions.add("mine", "text 1", "mine.py", "passed")
        two = await versions.add("mine", "text 2", "mine.py", "passed")
        again = await versions.add("mine", "text 2", "other.py", "passed")

        assert (one.number, two.number) == (1, 2)
        assert again == two
        assert await versions.versions("mine") == [one, two]
        assert await versions.find("mine") == two
        assert await versions.find("mine", 1) == one


async def test_of_several_who_load_at_once_each_gets_a_number(store: Open) -> None:
    async with store() as versions:
        added = await asyncio.gather(
            *(versions.add("mine", f"text {n}", "mine.py", "passed") for n in range(6))
        )

        assert sorted(v.number for v in added) == [1, 2, 3, 4, 5, 6]
        assert {v.number: v.text for v in await versions.versions("mine")} == {
            v.number: v.text for v in added
        }


async def test_what_was_never_loaded_is_named_with_what_was(store: Open) -> None:
    async with store() as versions:
        with pytest.raises(UnknownVersion, match="no version mine; there are none: load its file"):
            await versions.find("mine")
        await versions.add("mine", "text", "mine.py", "passed")
        with pytest.raises(UnknownVersion, match="no version mine@7; there are mine@1"):
            await versions.activate("mine", Ref("mine", 7))


async def test_an_activation_serves_until_it_is_rolled_back(store: Open) -> None:
    async with store() as versions:
        assert await versions.active("mine") is None
        for number in (1, 2):
            await versions.add("mine", f"text {number}", "mine.py", "passed")
        await versions.activate("mine", Ref("mine", 1))
        trial = await versions.activate("mine", Ref("mine", 2), 0.1)

        assert trial.base == Ref("mine", 1)
        assert await versions.active("mine") == trial
        back = await versions.roll_back("mine")
        assert (back.candidate, back.share) == (Ref("mine", 1), 1.0)
        assert (await versions.roll_back("mine")).candidate == Ref("mine")
        with pytest.raises(BadActivation):
            await versions.roll_back("mine")
        assert [c.activation.reason for c in await versions.history("mine")] == [
            "activated for 100%",
            "activated for 10%",
            "rolled back from mine@2",
            "rolled back from mine@1",
        ]


async def test_a_withdrawn_version_is_out_of_every_slot_with_the_reason(store: Open) -> None:
    async with store() as versions:
        bad = (await versions.add("mine", "text", "mine.py", "passed")).ref
        for slot in ("mine", None):
            await versions.activate(slot, bad, 0.5)

        changed = await versions.withdraw(bad, "it raised")
        again = await versions.withdraw(bad, "it raised")

        assert sorted(map(str, changed)) == ["None", "mine"]
        assert again == []
        for slot in ("mine", None):
            now = await versions.active(slot)
            assert now is not None
            assert (now.candidate, now.withdrawn) == (Ref(slot or ""), bad)
            assert "it raised" in now.reason


async def test_several_who_withdraw_at_once_do_it_once(store: Open) -> None:
    async with store() as versions:
        bad = (await versions.add("mine", "text", "mine.py", "passed")).ref
        await versions.activate("mine", bad)

        changed = await asyncio.gather(*(versions.withdraw(bad, "it raised") for _ in range(4)))

        assert sum(map(len, changed)) == 1
        assert len(await versions.history("mine")) == 2


async def test_a_watcher_sees_versions_before_what_activates_them(store: Open) -> None:
    seen: list[object] = []

    async def watcher(entry: Entry) -> None:
        seen.append(read(entry))

    async with store() as versions:
        version = await versions.add("mine", "text", "mine.py", "passed")
        activation = await versions.activate("mine", version.ref)

        watch = await versions.watch(watcher)

        assert seen == [version, ("mine", activation)]
        await watch.unsubscribe()


def test_an_entry_is_what_its_key_says() -> None:
    assert read(Entry("active.default", b"", 1, 0.0, deleted=True)) == (None, None)
    assert read(Entry("something.else", b"", 1, 0.0)) is None
    with pytest.raises(Undecodable):
        read(Entry("version.mine.1", b"junk", 1, 0.0))
    with pytest.raises(Undecodable):
        read(Entry("active.default", b"junk", 1, 0.0))


def test_references_read_as_they_are_written() -> None:
    assert str(Ref("mine", 3)) == "mine@3"
    assert str(Ref("mine")) == "mine@installed"
    assert str(Ref("")) == "default@installed"
    assert Version("mine", 3, "", "", "").ref == Ref("mine", 3)
    assert Activation(Ref("a"), 1.0, Ref("a")).withdrawn is None
