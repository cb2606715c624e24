"""Checksums of a context's pages, computed a slice at a time between other work.

One for each layer, over what its tokens hold, wherever their pages lie: first all keys, then all
values. So both sides get the same numbers from pools that are laid out differently:

```
pages of 4 tokens   | k0 k1 k2 k3 | v0 v1 v2 v3 |    | k4 .. .. .. | v4 .. .. .. |
summed up           k0 k1 k2 k3   k4   v0 v1 v2 v3   v4
```

xxh3 reads 10 to 30 GB/s on one core and gives up the interpreter while it does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from xxhash import xxh3_64

from bus.transfers import PoolShape

from .layout import Offsets, page_offsets
from .mapped import Bytes

_SLICE_BYTES = 4 * 2**20
_SLICE_PIECES = 512


class Stretches(Struct, frozen=True, eq=False):
    """Bytes of a pool, piece after piece."""

    begins: Offsets
    num_bytes: Offsets


def stretches(shape: PoolShape, layer: int, pages: Offsets, num_tokens: int) -> Stretches:
    """One layer of the first ``num_tokens`` tokens of a context in ``pages``: keys, then values."""
    half_bytes = shape.page_bytes // 2
    token_bytes = half_bytes // shape.page_size
    starts = np.arange(len(pages)) * shape.page_size
    counts = np.clip(num_tokens - starts, 0, shape.page_size) * token_bytes
    begins = page_offsets(shape, layer, pages)
    return Stretches(np.concatenate([begins, begins + half_bytes]), np.tile(counts, 2))


@dataclass(slots=True, eq=False)
class _Job:
    number: int
    layers: deque[Stretches]
    done: Callable[[bytes], None]
    position: int = 0
    sum: xxh3_64 = field(default_factory=xxh3_64)
    sums: bytes = b""


class Checksums:
    """What is still to be summed up. Not thread-safe."""

    def __init__(self, memory: Bytes, shape: PoolShape) -> None:
        self._memory, self._shape = memory.data, shape
        self._jobs: deque[_Job] = deque()

    def add(
        self, number: int, pages: Offsets, num_tokens: int, done: Callable[[bytes], None]
    ) -> None:
        """Call ``done`` with eight bytes for each layer, unless it is dropped before."""
        layers = range(self._shape.num_layers)
        each = deque(stretches(self._shape, layer, pages, num_tokens) for layer in layers)
        self._jobs.append(_Job(number, each, done))

    def drop(self, number: int) -> None:
        self._jobs = deque(job for job in self._jobs if job.number != number)

    def turn(self) -> bool:
        """Sum up a slice, a fraction of a millisecond; whether there is more to do."""
        if self._jobs:
            self._advance(self._jobs[0])
        return bool(self._jobs)

    def _advance(self, job: _Job) -> None:
        budget = _SLICE_BYTES
        for _ in range(_SLICE_PIECES):
            if budget <= 0 or not job.layers:
                break
            budget -= self._piece(job)
        if not job.layers:
            self._jobs.popleft()
            job.done(job.sums)

    def _piece(self, job: _Job) -> int:
        layer = job.layers[0]
        if job.position < len(layer.begins):
            begin, num_bytes = int(layer.begins[job.position]), int(layer.num_bytes[job.position])
            job.sum.update(self._memory[begin : begin + num_bytes])
            job.position += 1
            return num_bytes
        job.sums += job.sum.digest()
        job.sum, job.position = xxh3_64(), 0
        job.layers.popleft()
        return 0
