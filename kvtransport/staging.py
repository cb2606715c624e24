"""Puts whose numbers change on the way: converted piece by piece in memory that peers can reach.

```
our pages  | a |  | b | c |      converted      | a b c |      their pages  | b |  | a | c |
           float32          ->   staging, bfloat16         put as usual
```

There is one staging area, of a slice. It is used again once its bytes have landed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from .casting import Cast, DoesNotFit
from .layout import Bytes, Runs
from .transport import PeerId

STAGING_BYTES = 2**20
NOBODY = 0
"""As the number of a put and a flush that no transfer may drop."""


class Outlet(Protocol):
    """The part of an outbox that staging uses."""

    def put(self, transfer: int, peer: PeerId, memory: bytes, runs: Runs) -> None: ...

    def flush(self, transfer: int, peer: PeerId, done: Callable[[], None]) -> None: ...


class Listener(Protocol):
    def moved(self, transfer: int) -> None:
        """Some of its bytes have landed."""
        ...

    def stuck(self, transfer: int, why: str) -> None:
        """Its numbers cannot be converted."""
        ...


@dataclass(slots=True, eq=False)
class _Conversion:
    transfer: int
    peer: PeerId
    memory: bytes
    runs: Runs
    cast: Cast
    position: int = 0


@dataclass(slots=True, eq=False)
class _Flush:
    transfer: int
    peer: PeerId
    done: Callable[[], None]


class Staging:
    """Not thread-safe."""

    def __init__(
        self,
        memory: Bytes,
        begin: int,
        outlet: Outlet,
        listener: Listener,
    ) -> None:
        """``memory`` is the pool with the staging area behind it, from ``begin`` on."""
        self._memory, self._begin, self._outlet = memory, begin, outlet
        self._listener = listener
        self._jobs: deque[_Conversion | _Flush] = deque()
        self._used_for: _Conversion | None = None

    def put(self, transfer: int, peer: PeerId, memory: bytes, runs: Runs, cast: Cast) -> None:
        if pieces := runs.split(STAGING_BYTES):
            self._jobs.append(_Conversion(transfer, peer, memory, pieces, cast))

    def has(self, transfer: int) -> bool:
        """Whether some of its puts wait here; then its flush has to wait behind them."""
        return any(job.transfer == transfer for job in self._jobs)

    def flush(self, transfer: int, peer: PeerId, done: Callable[[], None]) -> None:
        self._jobs.append(_Flush(transfer, peer, done))

    def drop(self, transfer: int) -> None:
        self._jobs = deque(job for job in self._jobs if job.transfer != transfer)

    def forget(self, peer: PeerId) -> None:
        self._jobs = deque(job for job in self._jobs if job.peer != peer)
        if self._used_for and self._used_for.peer == peer:
            self._used_for = None

    @property
    def transfer(self) -> int:
        """Whose bytes are on their way; `NOBODY` where none are."""
        return self._used_for.transfer if self._used_for else NOBODY

    def turn(self) -> bool:
        """Convert and hand on a slice, if the area is free; whether there is more to do now."""
        while self._jobs and isinstance(job := self._jobs[0], _Flush):
            self._jobs.popleft()
            self._outlet.flush(job.transfer, job.peer, job.done)
        if self._jobs and self._used_for is None:
            conversion = self._jobs[0]
            assert isinstance(conversion, _Conversion)
            self._advance(conversion)
        return bool(self._jobs) and self._used_for is None

    def _advance(self, job: _Conversion) -> None:
        ends = np.cumsum(job.runs.num_bytes[job.position :])
        count = max(int(np.searchsorted(ends, STAGING_BYTES, side="right")), 1)
        part = job.runs.part(job.position, job.position + count)
        job.position += count
        if job.position == len(job.runs):
            self._jobs.popleft()
        try:
            staged = self._convert(part, job.cast)
        except DoesNotFit as error:
            self._listener.stuck(job.transfer, str(error))
            return
        self._used_for = job
        self._outlet.put(NOBODY, job.peer, job.memory, staged)
        self._outlet.flush(NOBODY, job.peer, partial(self._landed, job.transfer))

    def _convert(self, part: Runs, cast: Cast) -> Runs:
        sizes = cast.source_bytes(part.num_bytes)
        pieces = [
            self._memory[begin : begin + size]
            for begin, size in zip(part.local.tolist(), sizes.tolist(), strict=True)
        ]
        converted = cast(np.concatenate(pieces))
        self._memory[self._begin : self._begin + len(converted)] = converted
        staged = self._begin + np.cumsum(part.num_bytes) - part.num_bytes
        return Runs(staged, part.remote, part.num_bytes)

    def _landed(self, transfer: int) -> None:
        self._used_for = None
        self._listener.moved(transfer)
