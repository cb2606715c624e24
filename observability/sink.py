"""Where finished spans go: the interface that every exporter and store implements."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from .spans import Span

OtlpProtocol: TypeAlias = Literal["http/protobuf", "grpc"]

MAX_KEPT: Final = 10_000


class TracingError(Exception):
    """The family of everything that this folder raises; `SpanSink.record` raises nothing."""


class SinkStatistics(Struct, frozen=True):
    """``recorded == written + dropped + pending``, in spans."""

    recorded: int = 0
    written: int = 0
    dropped: int = 0
    """Lost because the sink was full, closed, or could not write."""
    pending: int = 0


class SpanSink(Protocol):
    """Takes spans from an actor that has better things to do.

    Guarantees:
        * `record` never blocks, never raises and takes microseconds, whatever the other side does.
        * Memory is bounded; what does not fit is dropped and counted.
        * Both may be called from any thread, and after `close`, too: then spans are dropped.
        * `close` writes what is pending, within about two seconds, and leaves no thread behind
          that could keep the process alive. Calling it again does nothing.
    """

    def record(self, spans: Sequence[Span]) -> None: ...

    def close(self) -> None: ...

    def statistics(self) -> SinkStatistics: ...


class NullSink:
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self._recorded = 0

    def record(self, spans: Sequence[Span]) -> None:
        self._recorded += len(spans)

    def close(self) -> None:
        """There is nothing to write."""

    def statistics(self) -> SinkStatistics:
        return SinkStatistics(self._recorded, dropped=self._recorded)


class MemorySink:
    """Keeps the spans where a test can look at them; the first ``max_spans`` of them."""

    def __init__(self, max_spans: int = MAX_KEPT) -> None:
        self._spans: deque[Span] = deque()
        self._max_spans = max_spans
        self._recorded = 0
        self._closed = False

    @property
    def spans(self) -> list[Span]:
        """In the order in which they were recorded."""
        return list(self._spans)

    def record(self, spans: Sequence[Span]) -> None:
        self._recorded += len(spans)
        if not self._closed:
            self._spans.extend(spans[: self._max_spans - len(self._spans)])

    def close(self) -> None:
        self._closed = True

    def statistics(self) -> SinkStatistics:
        kept = len(self._spans)
        return SinkStatistics(self._recorded, kept, self._recorded - kept)
