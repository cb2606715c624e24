"""Pages put into a store come out as they were, or not at all; a file keeps them for the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.page_memory import PageBytes
from engine.page_store import PageStore, StoreShape, StoreUnusable

SHAPE = StoreShape(num_slots=3, slot_bytes=96, fingerprint="f")


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def page(number: int) -> PageBytes:
    return np.random.default_rng(number).integers(0, 256, SHAPE.slot_bytes, np.uint8)


def got(store: PageStore, number: int) -> bytes | None:
    content = store.get(key(number))
    return None if content is None else content.tobytes()


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PageStore]:
    in_file = request.param == "file"
    made = PageStore.in_file(tmp_path / "kv", SHAPE) if in_file else PageStore.in_memory(SHAPE)
    yield made
    made.check_integrity()
    made.close()


def test_what_was_put_in_comes_out(store: PageStore) -> None:
    for number in (1, 2):
        store.put(key(number), page(number))

    assert [got(store, n) for n in (1, 2, 3)] == [page(1).tobytes(), page(2).tobytes(), None]


def test_the_longest_unused_goes_first(store: PageStore) -> None:
    for number in (1, 2, 3):
        store.put(key(number), page(number))
    store.get(key(1))
    store.put(key(2), page(2))
    store.put(key(4), page(4))

    assert [got(store, n) is not None for n in (1, 2, 3, 4)] == [True, True, False, True]


@pytest.mark.parametrize("place", [0, 50, 95])
def test_a_page_that_has_changed_is_dropped_and_counted(store: PageStore, place: int) -> None:
    store.put(key(1), page(1))
    store.put(key(2), page(2))

    store.peek(key(1))[place] ^= 1

    assert got(store, 1) is None
    assert key(1) not in store
    assert (store.num_corrupt, len(store)) == (1, 1)
    store.put(key(1), page(1))
    assert got(store, 1) == page(1).tobytes()


def test_a_page_in_anothers_place_is_not_given_out(store: PageStore) -> None:
    for number in (1, 2):
        store.put(key(number), page(number))

    store.peek(key(1))[:] = store.peek(key(2))

    assert got(store, 1) is None
    assert got(store, 2) == page(2).tobytes()


def test_a_store_without_slots_keeps_nothing() -> None:
    store = PageStore.in_memory(StoreShape(0, 96, "f"))

    store.put(key(1), page(1))

    assert len(store) == 0
    store.close()


# --- files --------------------------------------------------------------------------------------


def filled(path: Path, *numbers: int) -> None:
    store = PageStore.in_file(path, SHAPE)
    for number in numbers:
        store.put(key(number), page(number))
    store.close()


def test_the_next_process_finds_what_the_last_one_left(tmp_path: Path) -> None:
    filled(tmp_path / "kv", 1, 2, 3, 4)

    store = PageStore.in_file(tmp_path / "kv", SHAPE)

    assert [got(store, n) is not None for n in (1, 2, 3, 4)] == [False, True, True, True]
    store.put(key(5), page(5))
    assert got(store, 2) is None, "the first to come is the first to go"
    store.check_integrity()
    store.close()


@pytest.mark.parametrize(
    "shape",
    [StoreShape(3, 96, "g"), StoreShape(4, 96, "f"), StoreShape(3, 48, "f")],
    ids=["other pages", "another number", "another size"],
)
def test_a_file_of_something_else_is_begun_anew(tmp_path: Path, shape: StoreShape) -> None:
    filled(tmp_path / "kv", 1, 2)

    store = PageStore.in_file(tmp_path / "kv", shape)

    assert len(store) == 0
    assert (tmp_path / "kv").stat().st_size == shape.num_bytes
    store.close()


def test_a_file_that_was_damaged_gives_only_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "kv"
    filled(path, 1, 2, 3)
    whole = path.read_bytes()
    outcomes = set()
    for place in range(88, len(whole), 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        store = PageStore.in_file(path, SHAPE)
        found = [got(store, number) for number in (1, 2, 3)]
        assert all(f in (None, page(n).tobytes()) for n, f in enumerate(found, 1))
        assert store.num_corrupt == found.count(None)
        outcomes.add(store.num_corrupt)
        store.put(key(9), page(9))
        assert got(store, 9) == page(9).tobytes()
        store.check_integrity()
        store.close()

    assert outcomes == {0, 1}


def test_two_engines_do_not_share_a_file(tmp_path: Path) -> None:
    store = PageStore.in_file(tmp_path / "kv", SHAPE)

    with pytest.raises(StoreUnusable, match="another engine uses it"):
        PageStore.in_file(tmp_path / "kv", SHAPE)

    store.close()
    PageStore.in_file(tmp_path / "kv", SHAPE).close()


def test_what_does_not_fit_on_the_disk_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="MiB are wanted"):
        PageStore.in_file(tmp_path / "kv", StoreShape(1 << 20, 1 << 40, "f"))


def test_a_path_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreUnusable, match="cannot be kept in"):
        PageStore.in_file(tmp_path / "file" / "kv", SHAPE)
