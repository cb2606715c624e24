"""The recordings of this machine's recent flows, in one bounded SQLite file."""

from __future__ import annotations

import sqlite3
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from bus.codec import Undecodable, decode, encode

from .recording import Recording

MAX_FLOWS: Final = 2000
MAX_BYTES: Final = 64 << 20
SPARE: Final = 16
"""One of so many may be too much: to find the oldest takes a look at all of them."""
BUSY_S: Final = 1.0
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS recording (
    number INTEGER PRIMARY KEY AUTOINCREMENT, flow TEXT NOT NULL UNIQUE, body BLOB NOT NULL
)
"""
WRITE: Final = "INSERT OR REPLACE INTO recording (flow, body) VALUES (?, ?)"
# The newest that fit, counted from the newest.
TRIM: Final = """
DELETE FROM recording WHERE number <= (
    SELECT MAX(number) FROM (
        SELECT number, ROW_NUMBER() OVER newest AS rank, SUM(LENGTH(body)) OVER newest AS bytes
        FROM recording WINDOW newest AS (ORDER BY number DESC)
    ) WHERE rank > ? OR bytes > ?
)
"""
FIND: Final = "SELECT flow, body FROM recording WHERE flow >= ? AND flow < ? LIMIT 2"


class RecordingError(Exception):
    """The family of everything that this file raises."""


class NoRecording(RecordingError):
    """There is none of this flow, or of more than one whose id begins so."""

    def __init__(self, flow: str, path: Path, found: int) -> None:
        why = "several begin so: give more of the id" if found else "none begins so"
        super().__init__(
            f"no recording of flow {flow[:80]!r} in {path}: {why}. The last {MAX_FLOWS} flows of "
            "the routers of this machine are kept"
        )
        self.flow = flow


class _Amount(Struct, frozen=True):
    """Of recordings."""

    num_flows: int = 0
    num_bytes: int = 0

    def plus(self, rows: Sequence[tuple[str, bytes]]) -> _Amount:
        more = sum(len(body) for _, body in rows)
        return _Amount(self.num_flows + len(rows), self.num_bytes + more)

    def exceeds(self, num_flows: int, num_bytes: int) -> bool:
        return self.num_flows > num_flows or self.num_bytes > num_bytes


class RecordingStore:
    """Recordings by flow, newest kept: as many and as large together as they may be, and for each
    store that writes a sixteenth more. Safe to use from several threads and processes.

    Raises:
        RecordingError: from every method; the file cannot be read or written.
    """

    def __init__(self, path: Path, max_flows: int = MAX_FLOWS, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max = path, (max_flows, max_bytes)
        self._untrimmed = _Amount(*self._max)  # nobody knows what others wrote before
        self._lock = threading.Lock()
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it holds what users asked
            self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")
            self._connection.execute(SCHEMA)

    def write(self, recordings: Sequence[Recording]) -> None:
        rows = [(r.flow, zlib.compress(encode(r))) for r in recordings]
        with self._lock, _translated(self.path), self._connection:
            self._connection.executemany(WRITE, rows)
            self._untrimmed = self._untrimmed.plus(rows)
            if self._untrimmed.exceeds(*(most // SPARE for most in self._max)):
                self._connection.execute(TRIM, self._max)
                self._untrimmed = _Amount()

    def find(self, flow: str) -> Recording:
        """The recording of the one flow whose id begins so.

        Raises:
            NoRecording
        """
        with self._lock, _translated(self.path):
            rows = self._connection.execute(FIND, (flow, flow + "\U0010ffff")).fetchall()
        if len(rows) != 1:
            raise NoRecording(flow, self.path, len(rows))
        try:
            return decode(zlib.decompress(rows[0][1]), Recording)
        except (Undecodable, zlib.error) as error:
            raise RecordingError(f"the recording of {rows[0][0]} cannot be read: {error}") from None

    def __len__(self) -> int:
        with self._lock, _translated(self.path):
            return int(self._connection.execute("SELECT COUNT(*) FROM recording").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise RecordingError(f"recordings in {path}: {error}") from None
