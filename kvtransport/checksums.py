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
from typing import TypeAlias

import numpy as np
from xxhash import xxh3_64

from bus.transfers import PoolShape

from .casting import Cast, DoesNotFit
from .effects import Sum
from .heads import part_of
from .layout import Bytes, Offsets, page_offsets
from .relaying import cast_for

_SLICE_BYTES = 4 * 2**20
_SLICE_PIECES = 512


Piece: TypeAlias = tuple[int, int]
"""Bytes ``[begin, end)`` of a pool."""


def stretches(
    shape: PoolShape, layer: int, pages: Offsets, num_tokens: int, part: tuple[int, int, int]
) -> list[Piece]:
    """One layer of the first ``num_tokens`` tokens of a context in ``pages``: keys, then values;
    ``part`` of the heads, as `heads.part_of` says."""
    half_bytes = shape.page_bytes // 2
    token_bytes = half_bytes // shape.page_size
    begins = page_offsets(shape, layer, pages)
    skipped, wanted, heads = part
    if wanted < heads:  # of each token some
        tokens = np.arange(num_tokens)
        page, slot = tokens // shape.page_size, tokens % shape.page_size
        starts = begins[page] + slot * token_bytes + skipped * token_bytes // heads
        sizes = np.full(num_tokens, wanted * token_bytes // heads)
    else:
        firsts = np.arange(len(pages)) * shape.page_size
        starts = begins
        sizes = np.clip(num_tokens - firsts, 0, shape.page_size) * token_bytes
    begins = np.concatenate([starts, starts + half_bytes])
    return list(zip(begins.tolist(), (begins + np.tile(sizes, 2)).tolist(), strict=True))


@dataclass(slots=True, eq=False)
class _Job:
    number: int
    layers: deque[list[Piece]]
    pieces_at_once: int
    cast: Cast | None
    done: Callable[[bytes], None]
    position: int = 0
    sum: xxh3_64 = field(default_factory=xxh3_64)
    sums: bytes = b""


class Checksums:
    """What is still to be summed up. Not thread-safe."""

    def __init__(self, memory: Bytes, shape: PoolShape) -> None:
        self._memory, self._bytes, self._shape = memory, memory.data, shape
        self._jobs: deque[_Job] = deque()

    def add(self, wanted: Sum, done: Callable[[bytes], None]) -> None:
        """Call ``done`` with eight bytes for each layer, unless it is dropped before."""
        ours, pages, num_tokens = self._shape, wanted.pages, wanted.num_tokens
        part = part_of(ours.layout, wanted.target.layout)
        layers = range(ours.num_layers)
        each = deque(stretches(ours, layer, pages, num_tokens, part) for layer in layers)
        at_once = max(1, min(_SLICE_PIECES, _SLICE_BYTES * 2 // ours.page_bytes))
        cast = cast_for(ours, wanted.target)
        self._jobs.append(_Job(wanted.transfer, each, at_once, cast, done))

    def drop(self, number: int) -> None:
        self._jobs = deque(job for job in self._jobs if job.number != number)

    def turn(self) -> bool:
        """Sum up a slice, a fraction of a millisecond; whether there is more to do."""
        if self._jobs:
            self._advance(self._jobs[0])
        return bool(self._jobs)

    def _advance(self, job: _Job) -> None:
        end = job.position + job.pieces_at_once
        pieces = job.layers[0][job.position : end]
        if job.cast:
            for begin, stop in pieces:
                job.sum.update(self._converted(begin, stop, job.cast))
        else:
            memory, update = self._bytes, job.sum.update
            for begin, stop in pieces:
                update(memory[begin:stop])
        job.position = end
        if end >= len(job.layers[0]):
            self._next_layer(job)

    def _next_layer(self, job: _Job) -> None:
        job.sums += job.sum.digest()
        job.sum, job.position = xxh3_64(), 0
        job.layers.popleft()
        if not job.layers:
            self._jobs.popleft()
            job.done(job.sums)

    def _converted(self, begin: int, stop: int, cast: Cast) -> memoryview:
        try:
            return cast(np.ascontiguousarray(self._memory[begin:stop])).data
        except DoesNotFit:
            return memoryview(b"")  # the transfer fails for the same reason
