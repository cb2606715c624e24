from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from kvtransport.layout import Runs
from kvtransport.outbox import SLICE_BYTES, SLICE_RUNS, WINDOW_BYTES, Outbox
from kvtransport.transport import PeerId

A, B = b"a" * 16, b"b" * 16


class FakeCarrier:
    """Writes down what it was asked; flushes end when the test says so."""

    def __init__(self) -> None:
        self.puts: list[tuple[PeerId, int, int]] = []
        self.gets: list[tuple[PeerId, int, int]] = []
        self.flushes: list[tuple[PeerId, Callable[[], None]]] = []

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self.puts.append((peer, len(runs), runs.total_bytes()))

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self.gets.append((peer, len(runs), runs.total_bytes()))

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        self.flushes.append((peer, done))

    def land(self) -> None:
        while self.flushes:
            self.flushes.pop(0)[1]()


def runs(count: int, size: int) -> Runs:
    offsets = np.arange(count, dtype=np.int64) * 2 * size
    return Runs(offsets, offsets, np.full(count, size, np.int64))


def outbox() -> tuple[Outbox, FakeCarrier, list[tuple[int, float]]]:
    """With a clock that moves a second with every look at it."""
    carrier, seconds = FakeCarrier(), itertools.count()
    issued: list[tuple[int, float]] = []
    box = Outbox(carrier, lambda *what: issued.append(what), lambda: float(next(seconds)))
    return box, carrier, issued


def test_a_large_run_goes_out_slice_by_slice() -> None:
    box, carrier, issued = outbox()
    box.put(1, A, b"", runs(1, 2 * SLICE_BYTES + 5))

    more = [box.turn(), box.turn(), box.turn()]

    assert more == [True, True, False]
    assert [num_bytes for _, _, num_bytes in carrier.puts] == [SLICE_BYTES, SLICE_BYTES, 5]
    assert issued == [(1, 1.0)] * 3


def test_many_short_runs_are_no_longer_than_a_slice_either() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(SLICE_RUNS + 1, 64))

    assert box.turn()
    assert not box.turn()
    assert [count for _, count, _ in carrier.puts] == [SLICE_RUNS, 1]


def test_small_jobs_share_a_turn_and_the_flush_follows_them() -> None:
    box, carrier, issued = outbox()
    landed: list[str] = []
    for transfer in (1, 2):
        box.put(transfer, A, b"", runs(2, 100))
    box.flush(1, A, lambda: landed.append("landed"))

    assert not box.turn()
    assert [count for _, count, _ in carrier.puts] == [2, 2]
    carrier.land()
    assert landed == ["landed"]
    assert issued == [(1, 1.0), (2, 1.0), (1, 1.0)]


def test_nothing_more_goes_out_until_a_full_window_has_landed() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, 2 * WINDOW_BYTES))

    while box.turn():
        pass
    before = sum(num_bytes for _, _, num_bytes in carrier.puts)
    carrier.land()
    while box.turn():
        pass

    assert before == WINDOW_BYTES
    assert sum(num_bytes for _, _, num_bytes in carrier.puts) == 2 * WINDOW_BYTES


def test_a_peer_that_waits_for_its_window_does_not_hold_up_another() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, 2 * WINDOW_BYTES))
    while box.turn():
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
    box.get(-1, A, b"", runs(1, SLICE_BYTES + 5))

    assert [box.turn(), box.turn()] == [True, False]
    assert carrier.gets == [(A, 1, SLICE_BYTES), (A, 1, 5)]
    assert carrier.puts == []
    assert issued == [(-1, 1.0)] * 2


def test_a_lost_peer_is_forgotten() -> None:
    box, carrier, _ = outbox()
    box.put(1, A, b"", runs(1, SLICE_BYTES))

    box.forget(A)

    assert not box.turn()
    assert carrier.puts == []


def test_no_pages_are_no_job() -> None:
    box, carrier, _ = outbox()

    box.put(1, A, b"", runs(0, 64))

    assert not box.turn()
    assert carrier.puts == []
