"""How fast memory is read here, by so many threads: what decoding cannot pass."""

from __future__ import annotations

import statistics
import threading
import time

import numpy as np

SIZE_BYTES = 512 << 20
REPEATS = 5


def read_gb_per_s(threads: int) -> float:
    """Looks for the largest number in memory far larger than the caches; the median of some."""
    parts = np.array_split(np.ones(SIZE_BYTES // 8), threads)
    return statistics.median(SIZE_BYTES / _read(parts) / 1e9 for _ in range(REPEATS))


def _read(parts: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> float:
    workers = [threading.Thread(target=part.max) for part in parts]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin
