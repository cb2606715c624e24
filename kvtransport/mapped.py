"""Copies between two pools that both lie in our address space, without holding other threads up.

UCX would do the same with one call for each run, and the call costs as much as some kilobytes. What
matters more: whoever makes short calls without giving up the interpreter keeps everybody else out
of it for as long as the transfer takes. So the interpreter is given up for every long run, and for
whole batches of short ones, which numpy gathers and scatters:

```
source   | a |  | b | c |  | d |      gathered   | b d a c |      target  | c |  | b | a |  | d |
```

The batch stays in the processor's cache, and is still faster than short runs copied one by one.
"""

from __future__ import annotations

from ctypes import memmove
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layout import Bytes, Runs

_LONG_RUN_BYTES = 16 * 1024
"""From here on one copy takes longer than giving up the interpreter and taking it back."""
_PIECE_BYTES = 512 * 1024
"""Longer ones are copied in such pieces. The C library takes a larger copy for one that must leave
the cache alone only far above the cache's size; in between it reads what it overwrites. Measured at
16 MiB: 13 GB/s in pieces, 9 in one, between pools in pages of 4 KiB."""
_BATCH_BYTES = 512 * 1024
_SMALLEST_PIECE_BYTES = 256
"""Below, numpy's work for each piece exceeds the bytes'."""


def copy_runs(source: Bytes, target: Bytes, runs: Runs) -> None:
    """Copy each run from ``runs.local`` in ``source`` to ``runs.remote`` in ``target``.

    All of them must lie inside, or memory is destroyed; none overlaps another's target.
    """
    if len(runs) == 1:
        local, remote, num_bytes = runs.only()
        _copy_in_pieces(_address(target) + remote, _address(source) + local, num_bytes)
        return
    long = runs.num_bytes >= _LONG_RUN_BYTES
    if long.all():
        _copy_each(source, target, runs)
    elif long.any():
        _copy_each(source, target, runs.where(long))
        _copy_short(source, target, runs.where(~long))
    else:
        _copy_short(source, target, runs)


def _copy_short(source: Bytes, target: Bytes, runs: Runs) -> None:
    piece_bytes = _common_measure(runs)
    if piece_bytes < _SMALLEST_PIECE_BYTES:
        _copy_each(source, target, runs)
        return
    pieces = runs.split(piece_bytes)
    ours, theirs = _rows(source, piece_bytes), _rows(target, piece_bytes)
    from_, to = pieces.local // piece_bytes, pieces.remote // piece_bytes
    batch = max(1, _BATCH_BYTES // piece_bytes)
    for begin in range(0, len(pieces), batch):
        end = begin + batch
        theirs[to[begin:end]] = ours[from_[begin:end]]


def _copy_each(source: Bytes, target: Bytes, runs: Runs) -> None:
    columns = runs.remote + _address(target), runs.local + _address(source), runs.num_bytes
    for to, begin, size in zip(*(column.tolist() for column in columns), strict=True):
        if size <= _PIECE_BYTES:
            memmove(to, begin, size)  # gives up the interpreter, with the least around it
        else:
            _copy_in_pieces(to, begin, size)


def _copy_in_pieces(to: int, begin: int, size: int) -> None:
    for done in range(0, size, _PIECE_BYTES):
        memmove(to + done, begin + done, min(_PIECE_BYTES, size - done))


def _common_measure(runs: Runs) -> int:
    """The largest number of bytes that divides every offset and length."""
    return int(np.gcd.reduce(np.concatenate([runs.local, runs.remote, runs.num_bytes])))


def _address(array: Bytes) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _rows(pool: Bytes, row_bytes: int) -> NDArray[Any]:
    """The pool as rows of numbers: numpy keeps the interpreter while it copies anything else."""
    number = np.int64 if row_bytes % 8 == 0 else np.uint8
    count = len(pool) // row_bytes
    return pool[: count * row_bytes].view(number).reshape(count, -1)
