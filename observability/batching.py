"""One thread that takes spans off the callers' hands and writes them in batches."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from .sink import SinkStatistics
from .spans import Span

logger = logging.getLogger(__name__)

CLOSE_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0


class Batching(Struct, frozen=True):
    """How much is written at once, how soon, and how much may wait."""

    max_batch: int = 16
    interval_s: float = 0.05
    """A span waits no longer than this for others to be written with."""
    max_pending: int = 4096


class Writer(Protocol):
    """Writes spans somewhere."""

    def write(self, spans: Sequence[Span]) -> str | None:
        """None, or why it failed: these spans are lost then. Called from one thread only."""
        ...

    def close(self) -> None:
        """Give everything back; a `write` that is still in progress elsewhere returns soon.
        Called once, last."""
        ...


class Batcher:
    """A bounded queue with a thread at its end. After a failure it pauses, up to 5 s, so that a
    collector that is down costs next to nothing; what comes meanwhile waits or is dropped.

    A failure is logged once, and once more when writing works again.
    """

    def __init__(self, name: str, writer: Writer, batching: Batching) -> None:
        self._name, self._writer, self._batching = name, writer, batching
        self._changed = threading.Condition()
        self._pending: deque[Span] = deque()
        self._recorded = self._written = self._dropped = self._in_hand = 0
        self._num_failures = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def record(self, spans: Sequence[Span]) -> None:
        with self._changed:
            waiting = len(self._pending)
            room = 0 if self._closing else self._batching.max_pending - waiting
            self._recorded += len(spans)
            self._dropped += max(len(spans) - room, 0)
            self._pending.extend(spans[:room])
            # The thread is woken twice a batch, not once a span.
            if not waiting or len(self._pending) >= self._batching.max_batch:
                self._changed.notify_all()

    def close(self, within_s: float = CLOSE_S) -> None:
        """Write what is pending and end the thread. Whatever takes longer than ``within_s`` is
        interrupted and dropped."""
        with self._changed:
            again, self._closing = self._closing, True
            self._changed.notify_all()
        if again:
            return
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._drop_pending()
        self._writer.close()
        self._thread.join(within_s / 4)

    def statistics(self) -> SinkStatistics:
        with self._changed:
            pending = len(self._pending) + self._in_hand
            return SinkStatistics(self._recorded, self._written, self._dropped, pending)

    def _run(self) -> None:
        while batch := self._next():
            error = self._attempt(batch)
            with self._changed:
                self._in_hand = 0
                if error is None:
                    self._written += len(batch)
                else:
                    self._dropped += len(batch)
            self._note(error)
        self._drop_pending()

    def _next(self) -> list[Span]:
        """The next batch; empty when closing and done, or closing and it is of no use."""
        with self._changed:
            if self._num_failures:
                self._changed.wait_for(lambda: self._closing, self._pause_s())
            self._changed.wait_for(lambda: self._pending or self._closing)
            self._changed.wait_for(self._is_due, self._batching.interval_s)
            if self._closing and self._num_failures:
                return []
            size = min(len(self._pending), self._batching.max_batch)
            self._in_hand = size
            return [self._pending.popleft() for _ in range(size)]

    def _is_due(self) -> bool:
        return self._closing or len(self._pending) >= self._batching.max_batch

    def _pause_s(self) -> float:
        first_s = min(self._batching.interval_s, FIRST_PAUSE_S)
        doublings = min(self._num_failures, 16)
        return float(min(first_s * 2**doublings, LONGEST_PAUSE_S))

    def _attempt(self, batch: list[Span]) -> str | None:
        try:
            return self._writer.write(batch)
        except Exception as error:
            # Tracing must not cost the actor anything, not even for a bug here; `_note` logs it.
            return f"{type(error).__name__}: {error}"

    def _note(self, error: str | None) -> None:
        if error is not None and not self._num_failures:
            logger.warning("%s: spans are being lost: %s", self._name, error)
        if error is None and self._num_failures:
            logger.warning("%s: spans are written again", self._name)
        self._num_failures = 0 if error is None else self._num_failures + 1

    def _drop_pending(self) -> None:
        with self._changed:
            self._dropped += len(self._pending)
            self._pending.clear()
