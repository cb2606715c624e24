from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest

from observability.batching import Batcher, Batching
from observability.spans import Span

from .scripted import disaggregated

DEADLINE_S = 10.0
SPANS = disaggregated()


class Gate:
    """A writer that holds every batch until it is let through."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.errors: list[str | None] = []
        self.arrived = threading.Semaphore(0)
        self.pass_on = threading.Semaphore(0)
        self.closed = 0

    def write(self, spans: Sequence[Span]) -> str | None:
        self.batches.append(len(spans))
        self.arrived.release()
        assert self.pass_on.acquire(timeout=DEADLINE_S)
        if self.errors:
            error = self.errors.pop(0)
            if error == "raise":
                raise RuntimeError("a bug")
            return error
        return None

    def close(self) -> None:
        self.closed += 1
        self.pass_on.release(1000)

    def open(self) -> None:
        self.pass_on.release(1000)

    def wait(self) -> None:
        assert self.arrived.acquire(timeout=DEADLINE_S)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Batcher]:
    batching = Batching(max_batch=5, interval_s=0.001, max_pending=10)
    batcher = Batcher("test", gate, batching)
    yield batcher
    gate.open()
    batcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]


def test_recording_does_not_wait_for_the_writer(gate: Gate, batcher: Batcher) -> None:
    batcher.record(SPANS[:5])
    gate.wait()
    batcher.record(SPANS[:5])

    told = batcher.statistics()
    assert (told.recorded, told.written, told.pending) == (10, 0, 10)


def test_what_does_not_fit_is_dropped_and_counted(gate: Gate, batcher: Batcher) -> None:
    batcher.record(SPANS[:5])
    gate.wait()

    batcher.record(SPANS[:12])

    told = batcher.statistics()
    assert (told.recorded, told.dropped, told.pending) == (17, 2, 15)


def test_batches_have_a_limit_and_nothing_is_lost_at_the_end(gate: Gate, batcher: Batcher) -> None:
    gate.open()
    batcher.record(SPANS[:5])
    gate.wait()
    batcher.record(SPANS[:7])

    batcher.close()

    assert sum(gate.batches) == 12
    assert max(gate.batches) == 5
    assert batcher.statistics().written == 12


def test_one_span_does_not_wait_for_a_full_batch(gate: Gate, batcher: Batcher) -> None:
    batcher.record(SPANS[:1])

    gate.wait()

    assert gate.batches == [1]


def test_a_failure_and_its_end_are_logged_once(
    gate: Gate, batcher: Batcher, caplog: pytest.LogCaptureFixture
) -> None:
    gate.errors = ["no disk", "no disk", "raise", None]
    gate.open()

    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            batcher.record(SPANS[:5])
            gate.wait()
        batcher.close()

    assert [record.getMessage() for record in caplog.records] == [
        "test: spans are being lost: no disk",
        "test: spans are written again",
    ]
    told = batcher.statistics()
    assert (told.written, told.dropped) == (5, 15)


def test_an_exception_in_the_writer_is_a_failure_like_any_other(
    gate: Gate, batcher: Batcher, caplog: pytest.LogCaptureFixture
) -> None:
    gate.errors = ["raise"]
    gate.open()

    batcher.record(SPANS[:5])
    gate.wait()
    batcher.record(SPANS[:5])
    gate.wait()

    assert "RuntimeError: a bug" in caplog.text


def test_closing_interrupts_a_writer_that_hangs(gate: Gate, batcher: Batcher) -> None:
    batcher.record(SPANS[:5])
    gate.wait()
    batcher.record(SPANS[:3])

    batcher.close(within_s=0.05)

    assert gate.closed == 1
    told = batcher.statistics()
    assert (told.written, told.dropped, told.pending) == (5, 3, 0)


def test_closing_does_not_try_again_what_has_just_failed(gate: Gate, batcher: Batcher) -> None:
    gate.errors = ["down"] * 10
    batcher.record(SPANS[:10])
    gate.wait()
    gate.open()

    batcher.close()

    assert batcher.statistics().dropped == 10
    assert len(gate.batches) <= 2
