from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from observability import names
from observability.spans import Span, SpanContext
from observability.store import TraceStore
from observability.store_errors import AmbiguousFlow, BusyStore, UnknownFlow, UnreadableStore

from .scripted import BEGIN_S, CALLER, FLOW, at, begun, disaggregated, failed

DEADLINE_S = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "traces.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[TraceStore]:
    store = TraceStore(path)
    yield store
    store.close()


def small(flow: str, begin_ms: float = 0.0, parent: SpanContext | None = None) -> list[Span]:
    """A flow of one span."""
    trace = begun(flow, parent)
    trace.ended("finished", at(begin_ms + 1))
    return trace.drain()


def test_a_flow_is_read_as_it_was_written(store: TraceStore) -> None:
    spans = disaggregated()

    store.write(spans)

    assert sorted(store.flow(FLOW), key=lambda s: s.context.span_id) == sorted(
        spans, key=lambda s: s.context.span_id
    )


def test_spans_come_by_their_begin(store: TraceStore) -> None:
    store.write(disaggregated()[::-1])

    begins = [span.begin_s for span in store.flow(FLOW)]
    assert begins == sorted(begins)


def test_a_few_digits_are_enough_where_they_are_unique(store: TraceStore) -> None:
    store.write(small("aa11" + "0" * 28) + small("ab22" + "0" * 28))

    (span,) = store.flow("ab")

    assert span.attributes[names.FLOW] == "ab22" + "0" * 28


def test_an_ambiguous_prefix_names_the_candidates(store: TraceStore) -> None:
    store.write(small("aa11" + "0" * 28) + small("ab22" + "0" * 28))

    with pytest.raises(AmbiguousFlow, match="give more digits") as caught:
        store.flow("a")

    assert caught.value.candidates == ("aa11" + "0" * 28, "ab22" + "0" * 28)


def test_a_whole_id_is_never_ambiguous(store: TraceStore) -> None:
    store.write(small("f1") + small("f10"))

    assert len(store.flow("f1")) == 1


def test_an_unknown_flow_is_told_so(store: TraceStore) -> None:
    with pytest.raises(UnknownFlow, match="no flow begins with 'ff'"):
        store.flow("ff")


@pytest.mark.parametrize("given", ["%", "_", "' OR 1=1 --", "f*"])
def test_a_wildcard_is_a_character_like_any_other(store: TraceStore, given: str) -> None:
    store.write(small(FLOW))

    with pytest.raises(UnknownFlow):
        store.flow(given)


def test_a_flow_in_its_callers_trace_is_found_by_either_id(store: TraceStore) -> None:
    store.write(small("1" * 32, parent=CALLER) + small("2" * 32, parent=CALLER))

    assert len(store.flow("1" * 32)) == 1
    assert len(store.flow(CALLER.trace_id)) == 2


def test_a_span_without_a_flow_goes_with_its_trace(store: TraceStore) -> None:
    stray = Span(SpanContext(FLOW, "1" * 16), None, "stray", "internal", at(0), at(1))

    store.write([*small(FLOW), stray])

    assert [span.name for span in store.flow(FLOW)] == ["microserve.request", "stray"]


def test_a_span_written_again_is_replaced(store: TraceStore) -> None:
    store.write(disaggregated())
    store.write(disaggregated())

    assert len(store.flow(FLOW)) == 17


def test_the_latest_flows_come_first(store: TraceStore) -> None:
    store.write(disaggregated("1" * 32))
    late = begun("2" * 32)
    late.moved("Idle", "Submitted", "Preparing", at(50))
    late.moved("Preparing", "Prepared", "Sending", at(60))
    store.write(late.drain())

    running, finished = store.latest(5)

    assert (running.flow, running.outcome, running.num_spans) == ("2" * 32, "", 1)
    assert (finished.flow, finished.orchestration) == ("1" * 32, "disaggregated")
    assert finished.outcome == "finished"
    assert finished.begin_s == BEGIN_S
    assert finished.duration_s == pytest.approx(1.0, abs=1e-3)
    assert finished.num_spans == 17
    assert [head.flow for head in store.latest(1)] == ["2" * 32]


def test_the_list_tells_what_failed(store: TraceStore) -> None:
    store.write(failed())

    (head,) = store.latest(9)

    assert (head.outcome, head.error) == ("failed", "transfer_failed: e1 is gone")


def test_only_so_many_spans_are_kept_and_the_oldest_go_first(path: Path) -> None:
    store = TraceStore(path, max_spans=10)
    for number in range(25):
        store.write(small(f"{number:032x}"))

    kept = [head.flow for head in store.latest(100)]
    store.close()

    assert sorted(kept) == [f"{number:032x}" for number in range(15, 25)]


def test_a_batch_larger_than_the_store_leaves_its_end(path: Path) -> None:
    store = TraceStore(path, max_spans=3)

    store.write([span for number in range(9) for span in small(f"{number:032x}")])

    assert len(store.latest(100)) == 3
    store.close()


def test_a_store_keeps_at_least_one_span(path: Path) -> None:
    with pytest.raises(ValueError, match="max_spans must be 1 or more, not 0"):
        TraceStore(path, max_spans=0)


def _write_at_once(path: Path, process: int, together: Barrier) -> None:
    together.wait(DEADLINE_S)
    store = TraceStore(path)
    for number in range(20):
        store.write(small(f"{process}{number:031x}"))
    store.close()


def test_processes_create_and_write_one_store_at_once(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(3)
    writers = [spawn.Process(target=_write_at_once, args=(path, n, together)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(DEADLINE_S)

    store = TraceStore(path)
    flows = {head.flow for head in store.latest(1000)}
    store.close()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(flows) == 60


def test_what_one_process_wrote_another_reads(store: TraceStore, path: Path) -> None:
    reader = TraceStore(path)
    store.write(small(FLOW))

    assert len(reader.flow(FLOW)) == 1
    reader.close()


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and there are quite a few of them\n" * 100)

    with pytest.raises(UnreadableStore, match=r"notes.txt: file is not a database"):
        TraceStore(path)

    assert path.read_text().startswith("these are my notes")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(UnreadableStore, match="unable to open"):
        TraceStore(tmp_path)


def test_a_path_below_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnreadableStore):
        TraceStore(tmp_path / "file" / "traces")


def test_a_store_of_a_later_version_is_refused(path: Path) -> None:
    TraceStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()

    with pytest.raises(UnreadableStore, match="version 9, we read 1"):
        TraceStore(path)


def test_a_span_that_cannot_be_read_is_an_error_of_the_store(store: TraceStore, path: Path) -> None:
    store.write(small(FLOW))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE span SET body = x'00'")
    connection.commit()
    connection.close()

    with pytest.raises(UnreadableStore):
        store.flow(FLOW)


def test_a_busy_store_is_an_error_after_a_while_and_works_again(
    store: TraceStore, path: Path
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusyStore, match="trying again is safe"):
        store.write(small(FLOW))
    other.execute("ROLLBACK")
    other.close()

    store.write(small(FLOW))

    assert len(store.flow(FLOW)) == 1


def test_a_file_that_somebody_keeps_to_himself_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(BusyStore):
        TraceStore(path)

    other.execute("ROLLBACK")
    other.close()
    TraceStore(path).close()


def test_a_closed_store_may_be_closed_again(path: Path) -> None:
    store = TraceStore(path)
    store.close()
    store.close()

    with pytest.raises(UnreadableStore):
        store.flow(FLOW)
