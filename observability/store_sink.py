"""The local store as a place for an actor's spans to go."""

from __future__ import annotations

from collections.abc import Sequence

from .batching import Batcher, Batching
from .sink import SinkStatistics
from .spans import Span
from .store import TraceStore
from .store_errors import StoreError


class StoreSink:
    """A `SpanSink` that writes into a `TraceStore` from a thread of its own, and closes it."""

    def __init__(self, store: TraceStore, batching: Batching | None = None) -> None:
        self._batcher = Batcher(
            f"traces {store.path}", _Storing(store), batching or Batching(max_batch=64)
        )

    def record(self, spans: Sequence[Span]) -> None:
        self._batcher.record(spans)

    def close(self) -> None:
        self._batcher.close()

    def statistics(self) -> SinkStatistics:
        return self._batcher.statistics()


class _Storing:
    def __init__(self, store: TraceStore) -> None:
        self._store = store

    def write(self, spans: Sequence[Span]) -> str | None:
        try:
            self._store.write(spans)
        except StoreError as error:
            return str(error)
        return None

    def close(self) -> None:
        self._store.close()
