"""The kernels of native/ for torch tensors and numpy arrays: with `engine.kernel_jobs`, the only
files of the engine that know ctypes."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import byref, c_long, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .kernel_build import NoKernels
from .kernel_jobs import (
    AttentionJob,
    GatedJob,
    Layers,
    LikeliestJob,
    NormJob,
    Runs,
    WritingJob,
    check,
)
from .kernel_limits import LANES, MAX_GROUP, MAX_HEAD_DIM
from .shortlists import TIES, Scores, Shortlists, Wanted, empty, put, width_of


class Kernels:
    """One set of threads. Not thread-safe: one caller at a time.

    All tensors are float32 on the CPU, and contiguous. What a row of a result is depends on that
    row's inputs alone, to the last bit: not on other rows, their number, threads or vector width.
    """

    def __init__(self, library: Path, threads: int) -> None:
        """``threads`` compute, the caller's among them.

        Raises:
            NoKernels: the library cannot be loaded, or the system gives no threads.
        """
        if threads < 1:
            raise ValueError(f"threads={threads}: give at least 1")
        self._library = _load(library)
        self.threads = threads
        self._pool = c_void_p(self._library.open_pool(c_long(threads)))
        if not self._pool:
            raise NoKernels(f"the system gives no {threads} threads")
        weakref.finalize(self, self._library.close_pool, self._pool)

    def linear(self, x: Tensor, layer: Layers, add: Tensor | None = None) -> Tensor:
        """``[tokens, in]`` to ``x @ weight.T + bias`` of the one layer, ``[tokens, out]``; with
        ``add``, added to what is there, which is returned."""
        out = x.new_empty((len(x), layer.sizes_out[0])) if add is None else add
        self._library.linear(self._pool, byref(layer.job(x, (out,), add is not None)))
        return out

    def linears(self, x: Tensor, layers: Layers) -> list[Tensor]:
        """As `linear` for each layer; threads wait for each other once, not after each."""
        outs = [x.new_empty((len(x), size_out)) for size_out in layers.sizes_out]
        self._library.linear(self._pool, byref(layers.job(x, outs, add=False)))
        return outs

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Root mean square normalisation of ``[..., size]`` over the last axis."""
        size = len(weight)
        check(x, size)
        out = torch.empty_like(x)
        rows = x.numel() // size
        job = NormJob(x.data_ptr(), rows, size, weight.data_ptr(), epsilon, out.data_ptr())
        self._library.norm(self._pool, byref(job))
        return out

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """``silu(gate) * up``, in the memory of ``gate``."""
        check(gate, up.shape[-1])
        check(up, gate.shape[-1])
        job = GatedJob(gate.data_ptr(), up.data_ptr(), gate.numel(), gate.data_ptr())
        self._library.gated(self._pool, byref(job))
        return gate

    def write(
        self,
        cache: Tensor,
        heads: tuple[Tensor, Tensor, Tensor],
        turn: tuple[Tensor, Tensor],
        runs: Runs,
    ) -> None:
        """Put keys and values ``[tokens, kv_heads, head_dim]`` into the pages, the keys turned by
        the angles whose cosines and sines ``[tokens, head_dim / 2]`` are given; the queries
        ``[tokens, heads, head_dim]``, first of ``heads``, are turned where they are."""
        queries, keys, values = heads
        for tensor in (*heads, cache):
            check(tensor, tensor.shape[-1])
        job = WritingJob(
            *(tensor.data_ptr() for tensor in (*heads, *turn, cache)),
            runs.address_of_slots,
            *(len(queries), queries.shape[1], keys.shape[1], queries.shape[2], runs.page_size),
        )
        assert keys.shape == values.shape
        self._library.write_kv(self._pool, byref(job))

    def attend(
        self, cache: Tensor, queries: Tensor, num_kv_heads: int, window: int | None, runs: Runs
    ) -> Tensor:
        """What each token finds in its sequence up to itself, at most ``window`` tokens back:
        ``[tokens, heads, head_dim]`` in and out.

        Raises:
            MemoryError: there is none for what threads find before it is put together.
        """
        check(queries, queries.shape[-1])
        assert queries.shape[2] % LANES == 0, queries.shape
        assert queries.shape[2] <= MAX_HEAD_DIM, queries.shape
        assert queries.shape[1] <= MAX_GROUP * num_kv_heads, queries.shape
        out = torch.empty_like(queries)
        job = AttentionJob(
            *(tensor.data_ptr() for tensor in (queries, out, cache)),
            *runs.addresses,
            *(len(runs.begins), queries.shape[1], num_kv_heads, queries.shape[2], runs.page_size),
            window or 0,
            queries.shape[2] ** -0.5,
        )
        if self._library.attend(self._pool, byref(job)):
            raise MemoryError(f"no memory for attention of {len(queries)} tokens")
        return out

    def shortlists(self, scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
        """See `Shortlisting`."""
        logits, places = scores.logits, np.array([one.row for one in wanted])
        assert logits.dtype == np.float32
        assert logits.strides[1] == logits.itemsize, "rows are contiguous"
        rows = logits.ctypes.data + places * logits.strides[0]
        for place, one in enumerate(wanted):
            if one.row in scores.changed:
                rows[place] = scores.changed[one.row].ctypes.data
        nums = np.array([one.num for one in wanted])
        lists = empty(len(wanted), -(-width_of(wanted) // LANES) * LANES)
        job = LikeliestJob(
            *(rows.ctypes.data, nums.ctypes.data),
            *(len(rows), logits.shape[1], lists.scores.shape[1]),
            *(lists.tokens.ctypes.data, lists.counts.ctypes.data, lists.scores.ctypes.data),
        )
        self._library.likeliest(self._pool, byref(job))
        too_many = (lists.counts < 0) | (lists.counts > TIES * nums)
        for place in np.flatnonzero(too_many).tolist():  # of ties
            put(lists, place, scores.of(wanted[place].row), wanted[place].num)
        return lists


def _load(library: Path) -> Any:
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise NoKernels(f"{library} cannot be loaded: {error}") from error
    loaded.open_pool.restype = c_void_p
    loaded.close_pool.argtypes = (c_void_p,)
    return loaded
