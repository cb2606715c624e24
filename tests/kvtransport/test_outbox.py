from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvtransport.layout import Runs
from kvtransport.outbox import SLICE_BYTES, SLICE_RUNS, TAIL_BYTES, WINDOW_BYTES, Outbox
from kvtransport.pacing import Limited
from kvtransport.transport import PeerId

A, B = b"a" * 16, b"b" * 16


class FakeCarrier:
    """Writes down what it was asked; flushes end when the test says so."""

    def __init__(self) -> None:
        self.puts: list[tuple[PeerId, int, int]] = []
        self.runs: list[Runs] = []
        self.gets: list[tuple[PeerId, int, int]] = []
        self.flushes: list[tuple[PeerId, Callable[[], None]]] = []
        self.refused: set[bytes] = set()
        """Memories that nothing can be put into."""
        self.alerts: list[tuple[PeerId, int]] = []
        """Who was told that the end is near, and after how many puts."""

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        if memory in self.refused:
            raise ValueError(f"nothing goes into {memory!r}")
        self.puts.append((peer, len(runs), runs.total_bytes()))
        self.runs.append(runs)

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self.gets.append((peer, len(runs), runs.total_bytes()))

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        self.flushes.append((peer, done))

    def alert(self, peer: PeerId, memory: bytes) -> None:
        self.alerts.append((peer, len(self.puts)))

    def land(self) -> None:
        while self.flushes:
            self.flushes.pop(0)[1]()


class FakeListener:
    """Writes down what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, float]] = []
        self.left_out: list[tuple[int, str]] = []

    def issued(self, transfer: int, seconds: float) -> None:
        self.heard.append((transfer, seconds))

    def stuck(self, transfer: int, why: str) -> None:
        self.left_out.append((transfer, why))


class Clock:
    """Moves when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def runs(count: int, size: int) -> Runs:
    offsets = np.arange(count, dtype=np.int64) * 2 * size
    return Runs(offsets, offsets, np.full(count, size, np.int64))


def outbox() -> tuple[Outbox, FakeCarrier, list[tuple[int, float]]]:
    """With a clock that moves a second with every look at it."""
    carrier, seconds, listener = FakeCarrier(), itertools.count(), FakeListener()
    box = Outbox(carrier, listener, lambda: float(next(seconds)))
    return box, carrier, listener.heard


def test_a_large_run_goes_out_slice_by_slice() -> None:
    box, carrier, issued = outbox()
    box.put(1, A, b"", runs(1, 2 * SLICE_BYTES + TAIL_BYTES))

    more = [box.turn(), box.turn(), box.turn()]

    assert more == [0.0, 0.0, None]
    assert [num_bytes for _, _, num_bytes in carrier.puts] == [SLICE_BYTES, SLICE_BYTES, TAIL_BYTES]
    assert issued == [(1, 1.0)] * 3


def test_the_peer_is_told_that_the_end_is_near_before_the_last_megabyte() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, SLICE_BYTES))
    box.put(1, A, b"", runs(3, TAIL_BYTES))
    box.flush(1, A, lambda: None)

    while box.turn() is not None:
        pass

    front = SLICE_BYTES - TAIL_BYTES
    sizes = [num_bytes for _, _, num_bytes in carrier.puts]
    assert sizes == [front, TAIL_BYTES, 2 * TAIL_BYTES, TAIL_BYTES]
    assert carrier.alerts == [(A, 3)]
    assert len(carrier.flushes) == 1


def test_nobody_is_told_of_an_end_while_more_is_to_be_written() -> None:
    box, carrier, _ = outbox()

    box.put(1, A, b"", runs(2, 100))
    box.turn()

    assert carrier.alerts == []


LENGTHS = st.one_of(st.integers(1, 300), st.integers(1, 3 * SLICE_BYTES))


@given(st.lists(st.lists(LENGTHS, min_size=1, max_size=20), min_size=1, max_size=3))
def test_every_byte_goes_out_once_and_in_order(jobs: list[list[int]]) -> None:
    box, carrier, _ = outbox()
    for lengths in jobs:
        sizes = np.array(lengths, np.int64)
        ends = np.cumsum(sizes)
        box.put(1, A, b"", Runs(ends - sizes, 7 + ends - sizes, sizes))

    while box.turn() is not None or carrier.flushes:
        carrier.land()

    positions = [0, *np.cumsum([sum(lengths) for lengths in jobs]).tolist()]
    expected = [(n, n - begin) for begin, n in itertools.pairwise(positions)]
    total, seen = 0, []
    for runs in carrier.runs:
        for local, remote, size in zip(runs.local, runs.remote, runs.num_bytes, strict=True):
            begin = next(b for b, e in itertools.pairwise(positions) if b <= total < e)
            assert (local, remote - local) == (total - begin, 7)
            total += int(size)
        seen.append(total)
        assert runs.total_bytes() <= SLICE_BYTES
    assert total == positions[-1]
    assert {end for end, _ in expected} <= set(seen)


def test_what_is_left_of_a_turn_is_no_piece_where_it_is_small() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, SLICE_BYTES - TAIL_BYTES - 5))
    box.put(1, A, b"", runs(1, SLICE_BYTES))

    box.turn()

    sizes = [num_bytes for _, _, num_bytes in carrier.puts]
    assert sizes == [SLICE_BYTES - 2 * TAIL_BYTES - 5, TAIL_BYTES, TAIL_BYTES + 5]


def test_many_short_runs_are_no_longer_than_a_slice_either() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(SLICE_RUNS + 1, 64))

    assert box.turn() == 0.0
    assert box.turn() is None
    assert [count for _, count, _ in carrier.puts] == [SLICE_RUNS, 1]


def test_small_jobs_share_a_turn_and_the_flush_follows_them() -> None:
    box, carrier, issued = outbox()
    landed: list[str] = []
    for transfer in (1, 2):
        box.put(transfer, A, b"", runs(2, 100))
    box.flush(1, A, lambda: landed.append("landed"))

    assert box.turn() is None
    assert [count for _, count, _ in carrier.puts] == [2, 2]
    carrier.land()
    assert landed == ["landed"]
    assert issued == [(1, 1.0), (2, 1.0), (1, 1.0)]


def test_nothing_more_goes_out_until_a_full_window_has_landed() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, 2 * WINDOW_BYTES))

    while box.turn() is not None:
        pass
    before = sum(num_bytes for _, _, num_bytes in carrier.puts)
    carrier.land()
    while box.turn() is not None:
        pass

    assert before == WINDOW_BYTES
    assert sum(num_bytes for _, _, num_bytes in carrier.puts) == 2 * WINDOW_BYTES


def test_a_transfer_that_ends_with_a_window_is_flushed_once() -> None:
    box, carrier, _ = outbox()
    landed: list[str] = []
    for _ in range(2):
        box.put(1, A, b"", runs(1, WINDOW_BYTES))
        box.flush(1, A, lambda: landed.append("landed"))

    while box.turn() is not None:
        pass

    assert len(carrier.flushes) == 2
    carrier.land()
    assert landed == ["landed"] * 2


def test_a_peer_that_waits_for_its_window_does_not_hold_up_another() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, 2 * WINDOW_BYTES))
    while box.turn() is not None:
        pass

    box.put(2, B, b"", runs(1, 100))
    box.turn()

    assert carrier.puts[-1] == (B, 1, 100)


def test_a_dropped_transfer_is_written_no_more_and_others_are() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, 3 * SLICE_BYTES))
    box.put(2, A, b"", runs(1, 7))
    box.turn()

    box.drop(1)
    box.turn()

    assert [num_bytes for _, _, num_bytes in carrier.puts] == [SLICE_BYTES, 7]


def test_reads_go_out_slice_by_slice_too() -> None:
    box, carrier, issued = outbox()
    box.get(-1, A, b"", runs(1, SLICE_BYTES + TAIL_BYTES))

    assert [box.turn(), box.turn()] == [0.0, None]
    assert carrier.gets == [(A, 1, SLICE_BYTES), (A, 1, TAIL_BYTES)]
    assert carrier.puts == []
    assert issued == [(-1, 1.0)] * 2


def test_a_lost_peer_is_forgotten() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, SLICE_BYTES))

    box.forget(A)

    assert box.turn() is None
    assert carrier.puts == []


def test_no_pages_are_no_job() -> None:
    box, carrier, _ = outbox()

    box.put(1, A, b"", runs(0, 64))

    assert box.turn() is None
    assert carrier.puts == []


def test_what_goes_out_and_lands_keeps_to_the_pace_of_the_link() -> None:
    carrier, time = FakeCarrier(), Clock()
    pace = Limited(bytes_per_s=8 * SLICE_BYTES, clock=time)
    box = Outbox(carrier, FakeListener(), time, pace)
    box.put(1, A, b"", runs(1, SLICE_BYTES + TAIL_BYTES))
    box.flush(1, A, lambda: None)

    at_once = box.turn()
    early = box.turn()
    time.now = 0.125
    tail = box.turn()
    landing = len(carrier.flushes)
    time.now = 0.125 + TAIL_BYTES / SLICE_BYTES / 8
    rest = box.turn()

    assert (at_once, early, tail, rest) == (0.125, 0.125, 1 / 64, None)
    assert [num_bytes for _, _, num_bytes in carrier.puts] == [SLICE_BYTES, TAIL_BYTES]
    assert (landing, len(carrier.flushes)) == (0, 1)


def test_what_cannot_be_put_is_left_out_and_told_and_others_go_on() -> None:
    carrier, listener = FakeCarrier(), FakeListener()
    carrier.refused = {b"gone"}
    box = Outbox(carrier, listener, Clock())
    box.put(1, A, b"gone", runs(1, 2 * SLICE_BYTES))
    box.put(2, A, b"", runs(1, 7))
    box.put(3, B, b"", runs(1, 8))

    assert box.turn() is None
    assert carrier.puts == [(A, 1, 7), (B, 1, 8)]
    assert listener.left_out == [(1, "nothing goes into b'gone'")]


@given(st.floats(1.0, 1e5))
def test_a_slow_link_sees_progress_long_before_a_lease_runs_out(bytes_per_s: float) -> None:
    carrier, time = FakeCarrier(), Clock()
    box = Outbox(carrier, FakeListener(), time, Limited(bytes_per_s, clock=time))
    box.put(1, A, b"", runs(1, SLICE_BYTES))

    waits = []
    for _ in range(5):
        wait_s = box.turn()
        assert wait_s is not None
        waits.append(wait_s)
        time.now += wait_s

    assert len(carrier.puts) == 5
    assert max(waits) <= 1.0
