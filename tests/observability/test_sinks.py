"""What every sink guarantees, checked on all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from observability.opening import TracingConfig, open_sink
from observability.otlp import OtlpSink
from observability.sink import MemorySink, NullSink, SpanSink
from observability.store import TraceStore
from observability.store_sink import StoreSink

from .collectors import http_collector, nobody
from .scripted import FLOW, disaggregated

Make: TypeAlias = Callable[[Path, ExitStack], SpanSink]


def null(path: Path, stack: ExitStack) -> SpanSink:
    return NullSink()


def memory(path: Path, stack: ExitStack) -> SpanSink:
    return MemorySink()


def stored(path: Path, stack: ExitStack) -> SpanSink:
    return StoreSink(TraceStore(path))


def exported(path: Path, stack: ExitStack) -> SpanSink:
    return OtlpSink(stack.enter_context(http_collector()).endpoint)


def exported_to_nobody(path: Path, stack: ExitStack) -> SpanSink:
    return OtlpSink(stack.enter_context(nobody()))


@pytest.fixture(params=[null, memory, stored, exported, exported_to_nobody])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SpanSink]:
    make: Make = request.param
    with ExitStack() as stack:
        sink = make(tmp_path / "traces.sqlite", stack)
        yield sink
        sink.close()


def check_balance(sink: SpanSink) -> None:
    told = sink.statistics()
    assert told.recorded == told.written + told.dropped + told.pending


def test_every_span_is_accounted_for(sink: SpanSink) -> None:
    sink.record(disaggregated())
    check_balance(sink)

    sink.close()

    check_balance(sink)
    assert sink.statistics().recorded == 17
    assert sink.statistics().pending == 0


def test_nothing_is_nothing(sink: SpanSink) -> None:
    sink.record([])

    assert sink.statistics().recorded == 0


def test_spans_after_the_end_are_dropped_and_counted(sink: SpanSink) -> None:
    sink.close()

    sink.record(disaggregated())

    assert sink.statistics().dropped == 17


def test_closing_twice_does_nothing(sink: SpanSink) -> None:
    sink.close()
    before = sink.statistics()
    sink.close()

    assert sink.statistics() == before


def test_threads_may_record_at_once(sink: SpanSink) -> None:
    spans = disaggregated()
    threads = [threading.Thread(target=sink.record, args=(spans,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()

    assert sink.statistics().recorded == 8 * 17
    check_balance(sink)


def test_a_full_memory_drops_what_comes_later() -> None:
    sink = MemorySink(max_spans=10)

    sink.record(disaggregated())

    assert sink.spans == disaggregated()[:10]
    assert sink.statistics().dropped == 7


def test_the_store_sink_fills_the_store(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"

    sink = StoreSink(TraceStore(path))
    sink.record(disaggregated())
    sink.close()

    reader = TraceStore(path)
    assert len(reader.flow(FLOW)) == 17
    reader.close()


def test_a_store_that_broke_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces.sqlite")
    sink = StoreSink(store)
    store.close()

    sink.record(disaggregated())
    sink.close()

    assert sink.statistics().dropped == 17


def test_without_an_endpoint_the_store_is_used(tmp_path: Path) -> None:
    sink = open_sink(TracingConfig("test", store=tmp_path / "traces.sqlite"))

    assert isinstance(sink, StoreSink)
    sink.close()


def test_an_endpoint_wins_over_the_store(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"

    with http_collector() as collector:
        sink = open_sink(TracingConfig("test", collector.endpoint, store=path))
        sink.record(disaggregated())
        sink.close()
        assert len(collector.receive(17)) == 17

    assert not path.exists()


def test_with_neither_spans_are_dropped() -> None:
    assert isinstance(open_sink(TracingConfig("test")), NullSink)
