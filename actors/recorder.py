"""Where a router's recordings go: off its event loop, into a store or nowhere."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final, Protocol

from msgspec import Struct

from .recording import Recording
from .recordings import RecordingError, RecordingStore

logger = logging.getLogger("microserve.router")

BATCH: Final = 16
INTERVAL_S: Final = 0.1
MAX_PENDING: Final = 1024
CLOSE_S: Final = 2.0


class RecorderStatistics(Struct, frozen=True):
    kept: int
    dropped: int
    """Too many came at once, or the store would not take them."""
    pending: int


class Recorder(Protocol):
    """`keep` takes microseconds, blocks nobody and raises nothing; what does not fit is dropped."""

    def keep(self, recording: Recording) -> None: ...

    def close(self) -> None: ...


class MemoryRecorder:
    """Keeps the newest recordings for whoever looks."""

    def __init__(self, max_flows: int = 1000) -> None:
        self.recordings: deque[Recording] = deque(maxlen=max_flows)

    def keep(self, recording: Recording) -> None:
        self.recordings.append(recording)

    def close(self) -> None:
        """There is nothing to write."""


class StoreRecorder:
    """A `Recorder` with a thread that encodes, compresses and writes. Owns the store."""

    def __init__(self, store: RecordingStore) -> None:
        self._store = store
        self._pending: deque[Recording] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._kept = self._dropped = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def keep(self, recording: Recording) -> None:
        with self._changed:
            if self._closing or len(self._pending) >= MAX_PENDING:
                self._dropped += 1
                return
            self._pending.append(recording)

    def close(self) -> None:
        """Writes what is pending, within two seconds. Again does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)

    def statistics(self) -> RecorderStatistics:
        return RecorderStatistics(self._kept, self._dropped, len(self._pending))

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._closing:
                    self._changed.wait(INTERVAL_S)
                count = min(BATCH, len(self._pending))
                batch = [self._pending.popleft() for _ in range(count)]
                if not batch and self._closing:
                    break
            if batch:
                self._write(batch)
        self._store.close()

    def _write(self, batch: list[Recording]) -> None:
        try:
            self._store.write(batch)
            self._kept += len(batch)
        except RecordingError as error:
            self._dropped += len(batch)
            logger.warning("%d flows were not recorded: %s", len(batch), error)
