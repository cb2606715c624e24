"""Puts and gets that wait for their turn: a large transfer delays neither messages nor others.

One turn issues one slice for each peer. A window's worth of bytes is flushed before more go out: a
slow lane then holds little of ours, an abort takes effect soon, and progress can be seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .layout import Offsets, Runs
from .pacing import Pace, Unlimited
from .transport import PeerId

SLICE_BYTES = 8 * 2**20
"""What one turn copies: about a millisecond on the lanes where we copy ourselves."""
WINDOW_BYTES = 4 * SLICE_BYTES
TAIL_BYTES = 2**20
"""What is left of a transfer when its peer is told that the end is near: it takes about as long to
copy as the peer takes to wake up."""
LEAST_BYTES = 2**16
"""What is left of a turn is not worth a piece of a run where it is less."""
SLICE_RUNS = 512
"""A run costs about a microsecond besides its bytes."""


class Carrier(Protocol):
    """The part of a transport that the outbox uses."""

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None: ...

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None: ...

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None: ...

    def alert(self, peer: PeerId, memory: bytes) -> None: ...


class Listener(Protocol):
    """Who hears of transfers, by their numbers."""

    def issued(self, transfer: int, seconds: float) -> None:
        """Some of its bytes went out or have landed, which took so long."""
        ...

    def stuck(self, transfer: int, why: str) -> None:
        """Some of its bytes cannot be copied, and were left out: it must not be told complete."""
        ...


_Copy = Callable[[PeerId, bytes, Runs], None]


@dataclass(slots=True, eq=False)
class _Copies:
    """What is left of them begins within a run, where one is longer than a slice:

    ```
    runs  | 0 | 1 |        2        | 3 | 4 |
                       ^ done               ^ ends[-1]
    ```
    """

    transfer: int
    memory: bytes
    runs: Runs
    begin: _Copy
    """Puts, or gets."""
    ends: Offsets
    """Bytes up to and including each run."""
    done: int = 0
    """Bytes."""
    position: int = 0
    """The first run that is not over."""

    @property
    def is_over(self) -> bool:
        return self.position == len(self.runs)

    def next_part(self, budget: int) -> Runs:
        """So many bytes of it, in a limited number of runs; the tail is a part of its own."""
        tail = self.ends.item(-1) - TAIL_BYTES
        limit = min(self.done + budget, tail) if self.done < tail else self.done + budget
        fitting = min(int(self.ends.searchsorted(limit, "right")), self.position + SLICE_RUNS)
        if fitting > self.position:
            return self._whole_runs(fitting)
        return self._piece(limit - self.done)

    def _whole_runs(self, end: int) -> Runs:
        begin, skipped, before = self.position, self._skipped(), self.done
        self.position, self.done = end, self.ends.item(end - 1)
        if end == begin + 1:
            return self.runs.piece(begin, skipped, self.done - before)
        part = self.runs.part(begin, end)
        return part.without_first(skipped) if skipped else part

    def _piece(self, num_bytes: int) -> Runs:
        skipped = self._skipped()
        self.done += num_bytes
        return self.runs.piece(self.position, skipped, num_bytes)

    def _skipped(self) -> int:
        """Bytes of the first run that were copied already."""
        return self.done - (self.ends.item(self.position - 1) if self.position else 0)


@dataclass(slots=True, eq=False)
class _Flush:
    transfer: int
    done: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Queue:
    jobs: deque[_Copies | _Flush] = field(default_factory=deque)
    in_flight_bytes: int = 0
    window_flush: _Copies | None = None
    """Whose bytes have to land before more is issued."""

    @property
    def is_ready(self) -> bool:
        """Whether something of it may be issued."""
        return bool(self.jobs) and self.window_flush is None

    @property
    def ends(self) -> bool:
        """Whether what was issued last is to be flushed next."""
        return bool(self.jobs) and isinstance(self.jobs[0], _Flush)


class Outbox:
    """What is to be written, peer by peer. Not thread-safe."""

    def __init__(
        self,
        carrier: Carrier,
        listener: Listener,
        clock: Callable[[], float],
        pace: Pace | None = None,
    ) -> None:
        self._carrier, self._listener, self._clock = carrier, listener, clock
        self._pace = pace or Unlimited()
        self._queues: dict[PeerId, _Queue] = {}

    def put(self, transfer: int, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._add(transfer, peer, memory, runs, self._carrier.put)

    def get(self, transfer: int, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._add(transfer, peer, memory, runs, self._carrier.get)

    def _add(self, transfer: int, peer: PeerId, memory: bytes, runs: Runs, begin: _Copy) -> None:
        if len(runs):
            ends = np.add.accumulate(runs.num_bytes)
            self._queue(peer).jobs.append(_Copies(transfer, memory, runs, begin, ends))

    def flush(self, transfer: int, peer: PeerId, done: Callable[[], None]) -> None:
        """Call ``done`` once what was put to ``peer`` or got from it before has landed."""
        self._queue(peer).jobs.append(_Flush(transfer, done))

    def drop(self, transfer: int) -> None:
        """Forget what has not been issued of a transfer."""
        for queue in self._queues.values():
            if any(job.transfer == transfer for job in queue.jobs):
                queue.jobs = deque(job for job in queue.jobs if job.transfer != transfer)

    def forget(self, peer: PeerId) -> None:
        """The peer was lost: nothing of it can be issued, no flush will end."""
        self._queues.pop(peer, None)

    def turn(self) -> float | None:
        """Issue a slice for each peer that may take one. Returns the seconds until there is more to
        issue, None where nothing is, or nothing before something has landed."""
        for peer in [peer for peer, queue in self._queues.items() if queue.is_ready]:
            if queue := self._queues.get(peer):
                self._advance(peer, queue)
        ready = [queue for queue in self._queues.values() if queue.is_ready]
        return self._pace.wait_s() if ready else None

    def _queue(self, peer: PeerId) -> _Queue:
        return self._queues.setdefault(peer, _Queue())

    def _advance(self, peer: PeerId, queue: _Queue) -> None:
        """Small jobs go together until the slice is full; a flush goes as soon as it is first."""
        budget = self._pace.at_once(SLICE_BYTES)
        least = min(LEAST_BYTES, budget)
        while queue.jobs and queue.window_flush is None and not self._pace.wait_s():
            job = queue.jobs[0]
            if isinstance(job, _Flush):
                queue.jobs.popleft()
                queue.in_flight_bytes = 0  # it waits for all of them
                self._flush(peer, job.transfer, job.done)
            elif budget >= least:
                budget -= self._issue(peer, queue, job, budget)
            else:
                break

    def _flush(self, peer: PeerId, transfer: int, done: Callable[[], None]) -> None:
        """Waiting for bytes to land is part of the time that the lane takes for them."""
        began = self._clock()

        def landed() -> None:
            self._listener.issued(transfer, self._clock() - began)
            done()

        self._carrier.flush(peer, landed)

    def _issue(self, peer: PeerId, queue: _Queue, job: _Copies, budget: int) -> int:
        """Returns what it takes of a turn's budget."""
        part = job.next_part(budget)
        if job.is_over:
            queue.jobs.popleft()
        began = self._clock()
        try:
            if job.is_over and queue.ends:
                self._carrier.alert(peer, job.memory)
            job.begin(peer, job.memory, part)
        except ValueError as error:
            self._leave_out(queue, job, str(error))
            return 0
        self._listener.issued(job.transfer, self._clock() - began)
        num_bytes = part.total_bytes()
        self._pace.spend(num_bytes)
        queue.in_flight_bytes += num_bytes
        if queue.in_flight_bytes >= WINDOW_BYTES and not queue.ends:
            queue.in_flight_bytes, queue.window_flush = 0, job
            self._flush(peer, job.transfer, lambda: self._reopen(queue))
        return max(num_bytes, SLICE_BYTES * len(part) // SLICE_RUNS)

    def _leave_out(self, queue: _Queue, job: _Copies, why: str) -> None:
        """What is left of the job, too. Others' jobs go on."""
        if queue.jobs and queue.jobs[0] is job:
            queue.jobs.popleft()
        self._listener.stuck(job.transfer, why)

    @staticmethod
    def _reopen(queue: _Queue) -> None:
        queue.window_flush = None
