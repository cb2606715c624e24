"""Where a page lies in an engine's pool, and which stretches of bytes a copy of pages is made of.

```
local   layer 2: | .. | p7 | p8 | p9 | .. |          pages  [7, 8, 9]
                        \\    \\    \\
remote  layer 2: | .. | .. | .. | p3 | p4 | .. | p9 | pages  [3, 4, 9]

runs: (local p7, remote p3, two pages), (local p9, remote p9, one page)
```

Everything is vectorised: the work per page is a few machine instructions, never a Python object.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.transfers import PoolShape

Offsets = NDArray[np.int64]
"""Byte offsets, byte counts or page numbers, one dimension."""
Bytes = NDArray[np.uint8]
"""A pool, or a part of one."""


class PagesOutOfBounds(ValueError):
    """A page number that the pool does not have."""

    def __init__(self, lowest: int, highest: int, num_pages: int) -> None:
        super().__init__(
            f"pages {lowest} to {highest} were given; this pool has pages 0 to {num_pages - 1}"
        )
        self.lowest, self.highest, self.num_pages = lowest, highest, num_pages


class Runs(Struct, frozen=True, eq=False):
    """Stretches of bytes to copy: ``num_bytes[i]`` from ``local[i]`` to ``remote[i]``.

    Offsets count from the beginning of either pool. The three arrays have one length. A single run
    is asked as three numbers: numpy takes ten times as long for arrays of one.
    """

    local: Offsets
    remote: Offsets
    num_bytes: Offsets

    def __len__(self) -> int:
        return len(self.local)

    def total_bytes(self) -> int:
        if len(self) == 1:
            return self.num_bytes.item()
        return int(np.add.reduce(self.num_bytes))

    def part(self, begin: int, end: int) -> Runs:
        """Runs ``[begin, end)``."""
        return Runs(self.local[begin:end], self.remote[begin:end], self.num_bytes[begin:end])

    def piece(self, index: int, skipped: int, num_bytes: int) -> Runs:
        """Of run number ``index``, so many bytes after the ``skipped`` ones."""
        begins = self.local.item(index) + skipped, self.remote.item(index) + skipped
        return Runs(*(np.array([n], np.int64) for n in (*begins, num_bytes)))

    def without_first(self, num_bytes: int) -> Runs:
        """The same, but for so many bytes at the start of the first run."""
        skipped = np.zeros(len(self), np.int64)
        skipped[0] = num_bytes
        return Runs(self.local + skipped, self.remote + skipped, self.num_bytes - skipped)

    def only(self) -> tuple[int, int, int]:
        """Of a single run: its place here, its place there, and its bytes."""
        return self.local.item(), self.remote.item(), self.num_bytes.item()

    def reversed(self) -> Runs:
        """The copies back."""
        return Runs(self.remote, self.local, self.num_bytes)

    def where(self, chosen: NDArray[np.bool_]) -> Runs:
        """The chosen runs, in the same order."""
        return Runs(self.local[chosen], self.remote[chosen], self.num_bytes[chosen])

    def split(self, max_bytes: int) -> Runs:
        """The same bytes in runs of at most ``max_bytes`` each, in the same order."""
        pieces = -(-self.num_bytes // max_bytes)
        starts = np.cumsum(pieces) - pieces
        skipped = (np.arange(int(pieces.sum())) - np.repeat(starts, pieces)) * max_bytes
        left = np.repeat(self.num_bytes, pieces) - skipped
        return Runs(
            np.repeat(self.local, pieces) + skipped,
            np.repeat(self.remote, pieces) + skipped,
            np.minimum(left, max_bytes),
        )

    def reach(self) -> tuple[int, int]:
        """How many bytes our pool and theirs must have for these runs to lie inside; a negative
        offset reaches beyond any pool."""
        if not len(self):
            return 0, 0
        if len(self) == 1:
            local, remote, num_bytes = self.only()
            ends = local + num_bytes, remote + num_bytes
            return ends if min(local, remote, num_bytes) >= 0 else (2**63 - 1, 2**63 - 1)
        least = np.minimum.reduce  # without the Python around `min`: this is asked for every slice
        if min(least(self.local), least(self.remote), least(self.num_bytes)) < 0:
            return 2**63 - 1, 2**63 - 1
        ours, theirs = self.local + self.num_bytes, self.remote + self.num_bytes
        return int(np.maximum.reduce(ours)), int(np.maximum.reduce(theirs))


def as_pages(pages: Sequence[int] | Offsets) -> Offsets:
    """Page numbers as an array of our own, which nobody else can change."""
    return np.array(pages, dtype=np.int64).reshape(-1)


def check_pages(shape: PoolShape, pages: Offsets) -> None:
    """Raises `PagesOutOfBounds` where one of ``pages`` is not in a pool of this shape."""
    if len(pages) and (pages.min() < 0 or pages.max() >= shape.num_pages):
        raise PagesOutOfBounds(int(pages.min()), int(pages.max()), shape.num_pages)


def num_pages_of(shape: PoolShape, begin: int, end: int) -> int:
    """Pages that hold tokens ``[begin, end)``, where ``begin`` is a multiple of the page size."""
    return -(-(end - begin) // shape.page_size)


def compress(pages: Offsets) -> list[tuple[int, int]]:
    """Pages in their order as (first page, number of pages) runs, as few as there can be.

    ``compress([4, 5, 6, 9, 2]) == [(4, 3), (9, 1), (2, 1)]``; `expand` is its inverse.
    """
    starts = run_starts(np.diff(pages) != 1, len(pages))
    counts = np.diff(np.append(starts, len(pages)))
    return list(zip(pages[starts].tolist(), counts.tolist(), strict=True))


def expand(runs: Sequence[tuple[int, int]]) -> Offsets:
    """The page numbers of (first page, number of pages) runs, in order."""
    if not runs:
        return np.empty(0, np.int64)
    return np.concatenate([np.arange(first, first + count) for first, count in runs])


def coalesce(
    ours: PoolShape, theirs: PoolShape, layer: int, local: Offsets, remote: Offsets
) -> Runs:
    """How to copy one layer of our pages ``local`` to their pages ``remote``, pair by pair.

    The runs are in the order of the pages, and maximal: no two neighbours could be one.
    """
    steps = (np.diff(local) != 1) | (np.diff(remote) != 1)
    starts = run_starts(steps, len(local))
    counts = np.diff(np.append(starts, len(local)))
    return Runs(
        page_offsets(ours, layer, local[starts]),
        page_offsets(theirs, layer, remote[starts]),
        counts * ours.page_bytes,
    )


def run_starts(breaks: NDArray[np.bool_], length: int) -> NDArray[np.intp]:
    """Indices at which a run begins: the first, and each that does not follow its neighbour."""
    return np.flatnonzero(np.concatenate([np.ones(min(length, 1), np.bool_), breaks]))


def page_offsets(shape: PoolShape, layer: int, pages: Offsets) -> Offsets:
    """Where one layer of these pages begins."""
    return (layer * shape.num_pages + pages) * shape.page_bytes
