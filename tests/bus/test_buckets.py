"""Every guarantee in `bus.buckets`, one by one, on both implementations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.buckets import (
    BadKey,
    BucketConfig,
    Buckets,
    Entry,
    StoreFailed,
    WrongRevision,
    check_key,
    check_key_pattern,
)
from bus.jetstream import JetStreamBuckets
from bus.memory_buckets import MemoryBuckets
from bus.nats import NatsBus
from bus.server import EmbeddedServer

from .parties import reach

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Buckets]]

_NUMBERS = count(1)


@pytest.fixture(params=["memory", "jetstream"])
def buckets(request: pytest.FixtureRequest) -> Open:
    """Each call opens the same buckets once more, as another actor does."""
    if request.param == "memory":
        shared = MemoryBuckets()
        return lambda: _in_memory(shared)
    url: str = request.getfixturevalue("nats_url")
    return lambda: _at(url)


@asynccontextmanager
async def _in_memory(shared: MemoryBuckets) -> AsyncIterator[Buckets]:
    yield shared


@asynccontextmanager
async def _at(url: str) -> AsyncIterator[Buckets]:
    async with NatsBus(url) as bus:
        yield JetStreamBuckets(bus)


@pytest.fixture
def config() -> BucketConfig:
    """A bucket that no other test has."""
    return BucketConfig(f"test_{next(_NUMBERS)}", history=3)


class Seen:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def __call__(self, entry: Entry) -> None:
        self.entries.append(entry)

    @property
    def told(self) -> list[tuple[str, bytes | None]]:
        return [(e.key, None if e.deleted else e.value) for e in self.entries]


# --- values -------------------------------------------------------------------------------------


async def test_what_was_put_is_read_by_another(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours, buckets() as theirs:
        revision = await (await ours.bucket(config)).put("a.b", b"\x00 value")

        entry = await (await theirs.bucket(config)).get("a.b")

    assert entry is not None
    assert (entry.key, entry.value, entry.revision) == ("a.b", b"\x00 value", revision)
    assert entry.written_s > 1e9


async def test_a_key_that_nobody_wrote_has_no_value(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)

        assert await bucket.get("nothing") is None
        assert await bucket.history("nothing") == []
        assert await bucket.entries() == []


async def test_revisions_grow_over_all_keys(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)

        revisions = [await bucket.put(key, b"x") for key in ("a", "b", "a")]

    assert revisions == sorted(set(revisions))


async def test_only_the_first_creates(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        await bucket.create("a", b"first")

        with pytest.raises(WrongRevision, match="it exists already"):
            await bucket.create("a", b"second")

        entry = await bucket.get("a")
        assert entry is not None
        assert entry.value == b"first"


async def test_of_several_creators_at_once_one_succeeds(
    buckets: Open, config: BucketConfig
) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)

        results = await asyncio.gather(
            *(bucket.create("a", b"%d" % i) for i in range(8)), return_exceptions=True
        )

    assert sum(isinstance(r, int) for r in results) == 1
    assert sum(isinstance(r, WrongRevision) for r in results) == 7


async def test_an_update_from_an_old_revision_is_refused(
    buckets: Open, config: BucketConfig
) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        old = await bucket.put("a", b"1")
        new = await bucket.update("a", b"2", old)

        with pytest.raises(WrongRevision, match="not at revision"):
            await bucket.update("a", b"3", old)

        entry = await bucket.get("a")
        assert entry is not None
        assert (entry.value, entry.revision) == (b"2", new)


async def test_what_was_deleted_is_gone_and_may_be_created_again(
    buckets: Open, config: BucketConfig
) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        await bucket.put("a", b"1")

        await bucket.delete("a")
        assert await bucket.get("a") is None
        assert await bucket.entries() == []

        await bucket.create("a", b"2")
        assert [e.value for e in await bucket.entries()] == [b"2"]


async def test_history_is_kept_as_far_as_was_asked(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        for number in range(4):
            await bucket.put("a", b"%d" % number)
        await bucket.delete("a")

        history = await bucket.history("a")

    assert [(e.value, e.deleted) for e in history] == [(b"2", False), (b"3", False), (b"", True)]


async def test_entries_are_the_newest_of_the_keys_that_match(
    buckets: Open, config: BucketConfig
) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        for key, value in (("b.x", b"1"), ("a.x", b"2"), ("a.y", b"3"), ("b.x", b"4")):
            await bucket.put(key, value)

        assert [(e.key, e.value) for e in await bucket.entries("*.x")] == [
            ("a.x", b"2"),
            ("b.x", b"4"),
        ]
        assert [e.key for e in await bucket.entries("a.>")] == ["a.x", "a.y"]


async def test_a_bucket_that_exists_keeps_what_it_has(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        await (await ours.bucket(config)).put("a", b"1")

        again = await ours.bucket(BucketConfig(config.name, history=1))

        assert [e.value for e in await again.entries()] == [b"1"]


async def test_what_does_not_fit_is_refused(buckets: Open, config: BucketConfig) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(BucketConfig(config.name, max_bytes=2000))
        await bucket.put("a", bytes(1000))

        with pytest.raises(StoreFailed, match="maximum bytes"):
            await bucket.put("b", bytes(1500))

        assert [e.key for e in await bucket.entries()] == ["a"]


# --- watching -----------------------------------------------------------------------------------


async def test_a_watcher_sees_what_there_is_before_it_returns_and_then_every_change(
    buckets: Open, config: BucketConfig
) -> None:
    seen = Seen()
    async with buckets() as ours, buckets() as theirs:
        bucket = await ours.bucket(config)
        for value in (b"old", b"new"):
            await bucket.put("a", value)

        watch = await (await theirs.bucket(config)).watch(seen)
        assert seen.told == [("a", b"new")]
        await bucket.put("b", b"1")
        await bucket.put("b", b"2")
        await bucket.delete("a")

        await reach(lambda: len(seen.entries) == 4)
        assert seen.told[1:] == [("b", b"1"), ("b", b"2"), ("a", None)]
        await watch.unsubscribe()


async def test_a_watcher_of_a_pattern_sees_nothing_else(
    buckets: Open, config: BucketConfig
) -> None:
    seen = Seen()
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        watch = await bucket.watch(seen, "active.*")

        for key in ("source.a", "active.a", "active.b.c", "active.d"):
            await bucket.put(key, b"")

        await reach(lambda: len(seen.entries) == 2)
        assert [e.key for e in seen.entries] == ["active.a", "active.d"]
        await watch.unsubscribe()


async def test_after_unsubscribing_a_watcher_sees_nothing(
    buckets: Open, config: BucketConfig
) -> None:
    seen, other = Seen(), Seen()
    async with buckets() as ours:
        bucket = await ours.bucket(config)
        watch = await bucket.watch(seen)
        await watch.unsubscribe()
        await watch.unsubscribe()

        second = await bucket.watch(other)
        await bucket.put("a", b"1")

        await reach(lambda: len(other.entries) == 1)
        assert seen.entries == []
        await second.unsubscribe()


async def test_a_watcher_that_fails_sees_the_next_change(
    buckets: Open, config: BucketConfig
) -> None:
    seen = Seen()

    async def fail(entry: Entry) -> None:
        await seen(entry)
        raise RuntimeError(entry.key)

    async with buckets() as ours:
        bucket = await ours.bucket(config)
        watch = await bucket.watch(fail)
        for key in ("a", "b"):
            await bucket.put(key, b"")

        await reach(lambda: len(seen.entries) == 2)
        assert watch.statistics().failed == 2
        await watch.unsubscribe()


# --- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", ".", "a.", "a..b", "a b", "a*", ">", "a/b", "ä", "a" * 300])
async def test_a_key_that_cannot_be_one_is_refused(
    buckets: Open, config: BucketConfig, key: str
) -> None:
    async with buckets() as ours:
        bucket = await ours.bucket(config)

        with pytest.raises(BadKey, match="use letters"):
            await bucket.put(key, b"")
        with pytest.raises(BadKey):
            await bucket.get(key)


@given(st.text(alphabet="ab.*> ", max_size=8))
def test_a_pattern_without_wildcards_is_allowed_where_the_key_is(pattern: str) -> None:
    def refused(check: Callable[[str], None]) -> bool:
        try:
            check(pattern)
        except BadKey:
            return True
        return False

    if not {"*", ">"} & set(pattern):
        assert refused(check_key) == refused(check_key_pattern)
    elif refused(check_key_pattern):
        assert refused(check_key)


@pytest.mark.parametrize("pattern", [">", "*", "a.>", "*.b", "a.*.c"])
def test_wildcards_stand_for_whole_tokens(pattern: str) -> None:
    check_key_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a*", "*a.b", ">.a", "a>", "a.>.b"])
def test_a_wildcard_within_a_token_is_refused(pattern: str) -> None:
    with pytest.raises(BadKey):
        check_key_pattern(pattern)


def test_a_bucket_says_what_is_wrong_with_its_config() -> None:
    with pytest.raises(BadKey):
        BucketConfig("a.b")
    with pytest.raises(ValueError, match="history=65: give 1 to 64"):
        BucketConfig("a", history=65)


# --- only a real server -------------------------------------------------------------------------


async def test_a_watch_outlives_the_server_and_sees_what_was_changed_meanwhile() -> None:
    seen = Seen()
    async with EmbeddedServer() as server, NatsBus(server.url) as bus:
        bucket = await JetStreamBuckets(bus).bucket(BucketConfig("lasting"))
        await bucket.put("a", b"1")
        watch = await bucket.watch(seen)

        await server.restart()
        await bus.flush()
        await bucket.put("a", b"2")

        await reach(lambda: seen.told == [("a", b"1"), ("a", b"2")])
        await watch.unsubscribe()
