"""How an engine tells routers what its prefix cache has."""

from __future__ import annotations

import pytest

from actors import cachenews
from actors.cachenews import INTERVAL_S, CacheNews
from actors.effects import Publish
from bus.codec import decode
from bus.messages import CacheChanged
from bus.prefixes import unpack
from bus.subjects import Subjects
from engine.journal import CacheChanges, Journal


class Pages:
    """A cache that is only its journal."""

    def __init__(self) -> None:
        self.journal, self.hashes = Journal(), dict[int, None]()

    def store(self, *hashes: int) -> None:
        for page_hash in hashes:
            self.hashes[page_hash] = None
            self.journal.stored(page_hash)

    def evict(self, page_hash: int) -> None:
        del self.hashes[page_hash]
        self.journal.evicted(page_hash)

    def take_cache_changes(self) -> CacheChanges:
        return self.journal.take()

    def cached_hashes(self) -> tuple[int, ...]:
        return tuple(self.hashes)


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def news(pages: Pages) -> CacheNews:
    return CacheNews("e0", 7, pages, Subjects())


def told(publishes: list[Publish]) -> list[tuple[int, tuple[int, ...], tuple[int, ...], bool]]:
    assert all(p.subject == "ms.cache.e0" for p in publishes)
    messages = [decode(p.payload, CacheChanged) for p in publishes]
    assert all((m.engine, m.epoch) == ("e0", 7) for m in messages)
    return [(m.sequence, unpack(m.stored), unpack(m.evicted), m.reset) for m in messages]


def test_changes_are_numbered_and_told_once(pages: Pages, news: CacheNews) -> None:
    pages.store(1, 2)
    first = news.news(10.0)
    pages.evict(1)
    second = news.news(11.0)

    assert told(first) == [(1, (1, 2), (), False)]
    assert told(second) == [(2, (), (1,), False)]
    assert news.news(12.0) == []
    assert news.sequence == 2


def test_changes_of_a_moment_travel_together(pages: Pages, news: CacheNews) -> None:
    pages.store(1)
    news.news(10.0)
    pages.store(2)
    assert news.news(10.0 + INTERVAL_S / 2) == []
    pages.store(3)

    assert told(news.news(10.0 + 2 * INTERVAL_S)) == [(2, (2, 3), (), False)]


def test_a_snapshot_tells_everything_and_what_was_not_told_yet_is_in_it(
    pages: Pages, news: CacheNews
) -> None:
    pages.store(1)
    news.news(10.0)
    pages.store(2)

    snapshot = news.snapshot()

    assert told(snapshot) == [(2, (1, 2), (), True)]
    assert news.news(20.0) == []


def test_a_snapshot_of_nothing_says_so(news: CacheNews) -> None:
    assert told(news.snapshot()) == [(1, (), (), True)]


def test_what_is_too_much_for_one_message_goes_in_several(pages: Pages, news: CacheNews) -> None:
    pages.store(*range(cachenews.MAX_PAGES + 1))

    first, second = told(news.snapshot())

    assert (first[0], len(first[1]), first[3]) == (1, cachenews.MAX_PAGES, True)
    assert second == (2, (cachenews.MAX_PAGES,), (), False)
