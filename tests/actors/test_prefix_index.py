"""Both indexes against a plain model: what each engine has is a set of pages."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cache_index import ASK_EVERY_S, CacheIndex
from actors.prefix_index import BothIndexes, SentIndex
from bus.messages import Beat, CacheChanged
from bus.prefixes import chain, pack
from bus.tokens import Tokens

ENGINES = ("e0", "e1", "e2")
CHAINS = [chain(Tokens(t), 2) for t in ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 3, 3], [0, 0], [4, 4])]


def change(
    sequence: int,
    stored: tuple[int, ...] = (),
    evicted: tuple[int, ...] = (),
    *,
    engine: str = "e0",
    epoch: int = 1,
    reset: bool = False,
) -> CacheChanged:
    return CacheChanged(engine, epoch, sequence, pack(stored), pack(evicted), reset)


def beat(cache_sequence: int, epoch: int = 1) -> Beat:
    return Beat("e0", epoch, "m", "both", 0, 9, 9, 2, 99, "c", cache_sequence=cache_sequence)


# --- what was sent where ------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(ENGINES), st.sampled_from(CHAINS))))
def test_an_engine_has_what_it_was_sent(sent: list[tuple[str, tuple[int, ...]]]) -> None:
    index, pages = SentIndex(), defaultdict[str, set[int]](set)
    for engine, hashes in sent:
        index.sent(engine, hashes)
        pages[engine] |= set(hashes)

    for hashes in CHAINS:
        expected = {e: _depth(hashes, pages[e]) for e in ENGINES if _depth(hashes, pages[e])}
        assert index.find(hashes) == expected


def _depth(hashes: tuple[int, ...], pages: set[int]) -> int:
    return next((i for i, h in enumerate(hashes) if h not in pages), len(hashes))


def test_what_was_sent_longest_ago_is_forgotten_first_its_end_before_its_beginning() -> None:
    index = SentIndex(max_pages=4)
    index.sent("e0", (1, 2, 3))

    index.sent("e0", (7, 8))

    assert index.find((1, 2, 3)) == {"e0": 2}
    assert index.find((7, 8)) == {"e0": 2}


def test_what_an_engine_says_it_evicted_is_not_there() -> None:
    index = SentIndex()
    for engine in ("e0", "e1"):
        index.sent(engine, (1, 2))

    index.evicted("e0", (2, 99))

    assert index.find((1, 2)) == {"e0": 1, "e1": 2}


def test_a_lost_engine_has_nothing() -> None:
    index = SentIndex()
    index.sent("e0", (1, 2))
    index.sent("e1", (1,))

    index.forget("e0")

    assert index.find((1, 2)) == {"e1": 1}


# --- by the engines' own account ----------------------------------------------------------------


@pytest.fixture
def index() -> CacheIndex:
    return CacheIndex()


@given(st.lists(st.tuples(st.sampled_from(ENGINES), st.integers(0, 5), st.booleans())))
def test_whoever_hears_every_change_knows_what_is_there(
    changes: list[tuple[str, int, bool]],
) -> None:
    index, pages, sequences = (
        CacheIndex(),
        defaultdict[str, set[int]](set),
        defaultdict[str, int](int),
    )
    for engine, page, stored in changes:
        sequences[engine] += 1
        told = ((page,), ()) if stored else ((), (page,))
        assert not index.changed(change(sequences[engine], *told, engine=engine), 0.0)
        (pages[engine].add if stored else pages[engine].discard)(page)

    for page in range(6):
        assert index.find((page,)) == {e: 1 for e in ENGINES if page in pages[e]}


def test_a_gap_asks_for_a_snapshot_and_the_snapshot_puts_it_right(index: CacheIndex) -> None:
    index.changed(change(1, (1,)), 0.0)

    assert index.changed(change(3, (3,)), 0.0)
    assert index.find((1,)) == {"e0": 1}
    assert index.find((3,)) == {}

    assert not index.changed(change(4, (3, 4), reset=True), 0.1)
    assert index.find((1,)) == {}
    assert index.find((3, 4)) == {"e0": 2}
    assert not index.changed(change(5, (5,)), 0.1)


def test_a_snapshot_is_not_asked_for_again_at_once(index: CacheIndex) -> None:
    assert index.changed(change(2), 0.0)

    assert not index.changed(change(3), ASK_EVERY_S / 2)
    assert index.changed(change(4), ASK_EVERY_S)


def test_what_comes_twice_changes_nothing(index: CacheIndex) -> None:
    index.changed(change(1, (1,)), 0.0)
    index.changed(change(2, (), (1,)), 0.0)

    assert not index.changed(change(1, (1,)), 0.0)
    assert index.find((1,)) == {}


def test_a_new_epoch_begins_with_nothing(index: CacheIndex) -> None:
    index.changed(change(1, (1,)), 0.0)

    assert not index.changed(change(1, (2,), epoch=2), 0.0)

    assert index.find((1,)) == {}
    assert index.find((2,)) == {"e0": 1}
    assert not index.changed(change(9, (3,), epoch=1), 0.0)
    assert index.find((3,)) == {}


def test_a_beat_of_a_new_epoch_drops_what_the_old_one_had(index: CacheIndex) -> None:
    index.changed(change(1, (1,)), 0.0)

    index.heard(beat(0, epoch=2), 0.0)

    assert index.find((1,)) == {}


def test_a_beat_that_overtook_a_change_asks_for_nothing(index: CacheIndex) -> None:
    assert not index.heard(beat(1), 0.0)
    assert not index.changed(change(1, (1,)), 0.0)

    assert not index.heard(beat(1), 0.5)


def test_a_change_that_is_missing_at_the_next_beat_was_lost(index: CacheIndex) -> None:
    index.heard(beat(1), 0.0)

    assert index.heard(beat(1), 0.5)


def test_a_router_that_comes_late_asks_for_a_snapshot(index: CacheIndex) -> None:
    assert not index.heard(beat(57), 0.0)
    assert index.heard(beat(57), 0.5)

    index.changed(change(58, (1, 2), reset=True), 0.6)

    assert not index.heard(beat(58), 1.0)
    assert index.find((1, 2)) == {"e0": 2}


def test_half_a_hash_is_refused_and_changes_nothing(index: CacheIndex) -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        index.changed(CacheChanged("e0", 1, 1, b"half"), 0.0)

    assert not index.changed(change(1, (1,)), 0.0)


def test_of_two_accounts_the_better_one_counts() -> None:
    sent, told = SentIndex(), CacheIndex()
    sent.sent("e0", (1, 2, 3))
    sent.sent("e1", (1,))
    told.changed(change(1, (1, 2), engine="e1"), 0.0)

    assert BothIndexes(sent, told).find((1, 2, 3)) == {"e0": 3, "e1": 2}
