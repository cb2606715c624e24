"""The kernels of native/ for torch tensors: the only file that knows ctypes in the engine."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import byref, c_float, c_long, c_void_p
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from .kernel_build import NoKernels
from .kernel_limits import LANES, MAX_GROUP, MAX_HEAD_DIM
from .packing import Packed


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("scales", c_void_p),
        ("columns", c_long),
        ("bias", c_void_p),
        ("out", c_void_p),
    )


class _Linear(ctypes.Structure):
    _fields_ = (
        ("x", c_void_p),
        ("rows", c_long),
        ("depth", c_long),
        ("layers", c_void_p),
        ("num_layers", c_long),
        ("add", c_long),
    )


class _Norm(ctypes.Structure):
    _fields_ = (
        ("x", c_void_p),
        ("rows", c_long),
        ("size", c_long),
        ("weight", c_void_p),
        ("epsilon", c_float),
        ("out", c_void_p),
    )


class _Gated(ctypes.Structure):
    _fields_ = (("gate", c_void_p), ("up", c_void_p), ("size", c_long), ("out", c_void_p))


class _Writing(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("queries", "keys", "values", "cosines", "sines")),
        *((name, c_void_p) for name in ("cache", "slots")),
        *((name, c_long) for name in ("tokens", "heads", "kv_heads", "head_dim", "page_size")),
    )


class _Attention(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("queries", "out", "cache", "pages")),
        *((name, c_void_p) for name in ("begins", "counts", "positions", "tables")),
        *((name, c_long) for name in ("runs", "heads", "kv_heads", "head_dim", "page_size")),
        ("window", c_long),
        ("scale", c_float),
    )


class Layer(Struct, frozen=True):
    """What is multiplied by, and added."""

    weight: Packed
    bias: Tensor | None = None


class Layers:
    """Layers that see the same tokens, as the kernels want them. Keeps their memory alive."""

    def __init__(self, *layers: Layer) -> None:
        sizes_in = {layer.weight.size_in for layer in layers}
        assert len(sizes_in) == 1, f"layers of the same tokens are for {sizes_in} numbers"
        self.layers = layers
        self.size_in = sizes_in.pop()
        self.sizes_out = [layer.weight.size_out for layer in layers]
        self._jobs = (_Layer * len(layers))(*map(_layer, layers))
        self._address = ctypes.addressof(self._jobs)

    def job(self, x: Tensor, outs: Sequence[Tensor], add: bool) -> _Linear:
        """Valid until the next one is made."""
        _check(x, self.size_in)
        for job, size_out, out in zip(self._jobs, self.sizes_out, outs, strict=True):
            _check(out, size_out)
            job.out = out.data_ptr()
        return _Linear(x.data_ptr(), *x.shape, self._address, len(outs), add)


class Runs(Struct, frozen=True, dict=True):
    """Consecutive tokens of some sequences, behind each other on one token axis."""

    begins: NDArray[np.int64]
    """Where each run's first token is on the token axis."""
    counts: NDArray[np.int64]
    positions: NDArray[np.int64]
    """Of each run's first token in its sequence."""
    tables: NDArray[np.int64]
    """Where each run's block table begins in ``pages``."""
    pages: NDArray[np.int32]
    slots: NDArray[np.int64]
    """Where each token's keys go."""
    page_size: int

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """Of ``pages``, ``begins``, ``counts``, ``positions`` and ``tables``: asked for by every
        layer, and slow to find out."""
        arrays = (self.pages, self.begins, self.counts, self.positions, self.tables)
        return tuple(array.ctypes.data for array in arrays)

    @cached_property
    def address_of_slots(self) -> int:
        return self.slots.ctypes.data


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
        _check(x, size)
        out = torch.empty_like(x)
        rows = x.numel() // size
        job = _Norm(x.data_ptr(), rows, size, weight.data_ptr(), epsilon, out.data_ptr())
        self._library.norm(self._pool, byref(job))
        return out

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """``silu(gate) * up``, in the memory of ``gate``."""
        _check(gate, up.shape[-1])
        _check(up, gate.shape[-1])
        job = _Gated(gate.data_ptr(), up.data_ptr(), gate.numel(), gate.data_ptr())
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
            _check(tensor, tensor.shape[-1])
        job = _Writing(
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
        _check(queries, queries.shape[-1])
        assert queries.shape[2] % LANES == 0, queries.shape
        assert queries.shape[2] <= MAX_HEAD_DIM, queries.shape
        assert queries.shape[1] <= MAX_GROUP * num_kv_heads, queries.shape
        out = torch.empty_like(queries)
        job = _Attention(
            *(tensor.data_ptr() for tensor in (queries, out, cache)),
            *runs.addresses,
            *(len(runs.begins), queries.shape[1], num_kv_heads, queries.shape[2], runs.page_size),
            window or 0,
            queries.shape[2] ** -0.5,
        )
        if self._library.attend(self._pool, byref(job)):
            raise MemoryError(f"no memory for attention of {len(queries)} tokens")
        return out


def _load(library: Path) -> Any:
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise NoKernels(f"{library} cannot be loaded: {error}") from error
    loaded.open_pool.restype = c_void_p
    loaded.close_pool.argtypes = (c_void_p,)
    return loaded


def _layer(layer: Layer) -> _Layer:
    """All but where the result goes."""
    weight, bias = layer.weight, layer.bias
    return _Layer(
        weight.panels.data_ptr(),
        None if weight.scales is None else weight.scales.data_ptr(),
        weight.size_out,
        None if bias is None else bias.data_ptr(),
        None,
    )


def _check(tensor: Tensor, size: int) -> None:
    assert tensor.dtype == torch.float32, f"float32 is wanted, not {tensor.dtype}"
    assert tensor.is_contiguous(), "contiguous memory is wanted"
    assert tensor.shape[-1] == size, f"the last axis is {tensor.shape[-1]} long, not {size}"
