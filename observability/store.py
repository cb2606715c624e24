"""The traces of this machine, in one bounded SQLite file that many processes write at once.

It is what `microserve trace` reads where no collector is configured. Spans are stored whole; the
columns beside them are only what is searched.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import msgspec

from . import names
from .spans import Span
from .store_errors import BUSY_S, AmbiguousFlow, BusyStore, UnknownFlow, UnreadableStore

MAX_SPANS: Final = 100_000
VERSION: Final = 1

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS span (
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, flow TEXT NOT NULL, name TEXT NOT NULL,
    begin_s REAL NOT NULL, end_s REAL NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (trace_id, span_id)
);
CREATE INDEX IF NOT EXISTS span_by_flow ON span (flow, trace_id, begin_s, end_s);
"""
WRITE: Final = "INSERT OR REPLACE INTO span VALUES (?, ?, ?, ?, ?, ?, ?)"
# Row ids only grow, so this keeps at most max_spans, oldest first out, without counting them.
TRIM: Final = "DELETE FROM span WHERE rowid <= (SELECT MAX(rowid) FROM span) - ?"
FIND: Final = """
SELECT DISTINCT {column} FROM span WHERE {column} >= ? AND {column} < ? AND {column} <> ''
ORDER BY {column} LIMIT 6
"""
# A caller may send many requests in one trace: the flow's own spans, and those of its trace that
# belong to no flow.
READ_FLOW: Final = """
SELECT body FROM span
WHERE flow = :id OR (flow = '' AND trace_id IN (SELECT trace_id FROM span WHERE flow = :id))
ORDER BY begin_s, rowid
"""
READ_TRACE: Final = "SELECT body FROM span WHERE trace_id = :id ORDER BY begin_s, rowid"
# Answered from the index alone; the bodies are read for the few lines that are shown.
HEADS: Final = """
SELECT flow, trace_id, MIN(begin_s), MAX(end_s), COUNT(*)
FROM span GROUP BY flow, trace_id HAVING MIN(begin_s) >= ? ORDER BY {order} DESC LIMIT ?
"""
LATEST: Final = HEADS.format(order="MIN(begin_s)")
SLOWEST: Final = HEADS.format(order="MAX(end_s) - MIN(begin_s)")
READ_ROOT: Final = "SELECT body FROM span WHERE flow = ? AND trace_id = ? AND name = ?"


class FlowHead(msgspec.Struct, frozen=True):
    """One line of the list of recent flows."""

    flow: str
    trace_id: str
    begin_s: float
    duration_s: float
    num_spans: int
    orchestration: str = ""
    outcome: str = ""
    """Empty while the request's own span is missing: it goes on, or its router is gone."""
    error: str | None = None


class TraceStore:
    """Spans by flow. Safe to use from several threads and, on a local disk, several processes.

    At most ``max_spans`` are kept; the ones written first go first. A span that is written again
    replaces the earlier one.

    Raises:
        UnreadableStore, BusyStore: from every method, at construction too.
    """

    def __init__(self, path: str | Path, max_spans: int = MAX_SPANS) -> None:
        if max_spans < 1:
            raise ValueError(f"max_spans must be 1 or more, not {max_spans}")
        self.path = Path(path)
        self._max_spans = max_spans
        self._one_at_a_time = threading.Lock()
        self._closed = False
        self._connection = self._connect()

    def write(self, spans: Sequence[Span]) -> None:
        """All of them or, when it raises, none. Waits up to a second for other processes."""
        rows = [_row(span) for span in spans]
        with self._locked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.executemany(WRITE, rows)
                connection.execute(TRIM, (self._max_spans,))

    def flow(self, flow: str) -> list[Span]:
        """The spans of the one flow, or else the one trace, whose id begins so; by begin.

        Raises:
            UnknownFlow, AmbiguousFlow
        """
        with self._locked() as connection:
            for column in ("flow", "trace_id"):
                found = _beginning_with(connection, column, flow)
                if len(found) > 1:
                    raise AmbiguousFlow(flow, found)
                if found:
                    return _spans(connection, column, found[0])
        raise UnknownFlow(flow, self.path)

    def latest(self, limit: int, since_s: float = 0.0) -> list[FlowHead]:
        """The flows that began last, newest first; none that began before ``since_s``."""
        return self._heads(LATEST, limit, since_s)

    def slowest(self, limit: int, since_s: float = 0.0) -> list[FlowHead]:
        """The flows that took longest, the slowest first; none that began before ``since_s``."""
        return self._heads(SLOWEST, limit, since_s)

    def close(self) -> None:
        """Interrupts what is in progress. Calling it again does nothing."""
        if not self._closed:
            self._closed = True
            self._connection.interrupt()
            with self._one_at_a_time:
                self._connection.close()

    def _heads(self, query: str, limit: int, since_s: float) -> list[FlowHead]:
        with self._locked() as connection:
            rows = connection.execute(query, (since_s, limit)).fetchall()
            return [_head(row, _root(connection, row[0], row[1])) for row in rows]

    def _connect(self) -> sqlite3.Connection:
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # A crash of the machine may cost the last spans, never the file: that is what NORMAL is.
        connection.execute("PRAGMA synchronous = NORMAL")
        _allow_readers_beside_a_writer(connection)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise UnreadableStore(self.path, f"it has version {version}, we read {VERSION}")
            for statement in SCHEMA.split(";")[:-1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._one_at_a_time, self._translated():
            yield self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            if _is_busy(error):
                raise BusyStore(self.path) from error
            raise UnreadableStore(self.path, str(error)) from error


def _allow_readers_beside_a_writer(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. Where several processes create the file at once, SQLite refuses
    this without waiting as it does for everything else."""
    deadline_s = monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or monotonic() > deadline_s:
                raise
            sleep(0.01)
        else:
            return


def _is_busy(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _row(span: Span) -> tuple[str, str, str, str, float, float, bytes]:
    return (
        span.context.trace_id,
        span.context.span_id,
        str(span.attributes.get(names.FLOW, "")),
        span.name,
        span.begin_s,
        span.end_s,
        msgspec.msgpack.encode(span),
    )


def _beginning_with(connection: sqlite3.Connection, column: str, prefix: str) -> list[str]:
    """Up to six ids that begin so; only the one where ``prefix`` is a whole id."""
    query = FIND.format(column=column)
    found = [row[0] for row in connection.execute(query, (prefix, prefix + "\U0010ffff"))]
    return [prefix] if prefix in found else found


def _spans(connection: sqlite3.Connection, column: str, value: str) -> list[Span]:
    query = READ_FLOW if column == "flow" else READ_TRACE
    return [_decode(row[0]) for row in connection.execute(query, {"id": value})]


def _decode(body: bytes) -> Span:
    return msgspec.msgpack.decode(body, type=Span)


def _root(connection: sqlite3.Connection, flow: str, trace_id: str) -> Span | None:
    row = connection.execute(READ_ROOT, (flow, trace_id, names.REQUEST)).fetchone()
    return None if row is None else _decode(row[0])


def _head(row: tuple[str, str, float, float, int], root: Span | None) -> FlowHead:
    flow, trace_id, begin_s, end_s, num_spans = row
    if root is None:
        return FlowHead(flow, trace_id, begin_s, end_s - begin_s, num_spans)
    return FlowHead(
        flow,
        trace_id,
        root.begin_s,
        root.duration_s,
        num_spans,
        str(root.attributes.get(names.ORCHESTRATION, "")),
        str(root.attributes.get(names.OUTCOME, "")),
        root.error,
    )
