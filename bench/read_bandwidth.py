"""How fast memory is read here, by so many threads: what decoding cannot pass.

Nothing else is done with what is read. The way of reading matters as much as the memory, so several
are tried and the fastest counts, at its best: one loop through one place after the other was slower
than products with weights, which read in several places and fetch ahead.
"""

from __future__ import annotations

import ctypes
import threading
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from engine.huge_memory import huge_empty
from engine.kernel_build import built
from engine.model_files import default_cache_dir

SOURCE: Final = Path(__file__).parent / "native" / "reading.c"
STREAMS: Final = (1, 4, 8)
AHEAD_BYTES: Final = (0, 1024)
UNIT_BYTES: Final = 256 * max(STREAMS)
REPEATS: Final = 4


def read_gb_per_s(size_bytes: int, threads: int) -> float:
    """Of memory of that size, in pages as weights have them, read again and again from end to end.

    Raises:
        NoKernels: there is no C compiler.
    """
    memory = _memory(size_bytes // (UNIT_BYTES * threads) * UNIT_BYTES * threads)
    parts = memory.view(threads, -1)
    ways = [way for way in product(STREAMS, AHEAD_BYTES) for _ in range(REPEATS)]
    return memory.nbytes / min(_read_s(parts, *way) for way in ways) / 1e9


def read_all(part: Tensor, streams: int, ahead_bytes: int) -> int:
    """The exclusive or of all 64-bit words of a multiple of `UNIT_BYTES`."""
    found: int = _library().read_all(part.data_ptr(), part.nbytes, streams, ahead_bytes)
    return found


@cache
def _library() -> Any:
    library = ctypes.CDLL(str(built(default_cache_dir(), SOURCE)))
    library.read_all.argtypes = (ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_long)
    library.read_all.restype = ctypes.c_uint64
    return library


def _memory(size_bytes: int) -> Tensor:
    return huge_empty((size_bytes,), torch.uint8).fill_(1)


def _read_s(parts: Tensor, streams: int, ahead_bytes: int) -> float:
    workers = [
        threading.Thread(target=read_all, args=(part, streams, ahead_bytes)) for part in parts
    ]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begin
