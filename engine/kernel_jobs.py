"""What the kernels of native/ are told: C structures, and the arrays that they point to."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_long, c_void_p
from functools import cached_property

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from .packing import Packed


class _Layer(ctypes.Structure):
    _fields_ = (
        ("weight", c_void_p),
        ("scales", c_void_p),
        ("columns", c_long),
        ("bias", c_void_p),
        ("out", c_void_p),
    )


class LinearJob(ctypes.Structure):
    _fields_ = (
        ("x", c_void_p),
        ("rows", c_long),
        ("depth", c_long),
        ("layers", c_void_p),
        ("num_layers", c_long),
        ("add", c_long),
    )


class NormJob(ctypes.Structure):
    _fields_ = (
        ("x", c_void_p),
        ("rows", c_long),
        ("size", c_long),
        ("weight", c_void_p),
        ("epsilon", c_float),
        ("out", c_void_p),
    )


class GatedJob(ctypes.Structure):
    _fields_ = (("gate", c_void_p), ("up", c_void_p), ("size", c_long), ("out", c_void_p))


class WritingJob(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("queries", "keys", "values", "cosines", "sines")),
        *((name, c_void_p) for name in ("cache", "slots")),
        *((name, c_long) for name in ("tokens", "heads", "kv_heads", "head_dim", "page_size")),
    )


class AttentionJob(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("queries", "out", "cache", "pages")),
        *((name, c_void_p) for name in ("begins", "counts", "positions", "tables")),
        *((name, c_long) for name in ("runs", "heads", "kv_heads", "head_dim", "page_size")),
        ("window", c_long),
        ("scale", c_float),
    )


class LikeliestJob(ctypes.Structure):
    _fields_ = (
        *((name, c_void_p) for name in ("rows", "wanted")),
        *((name, c_long) for name in ("num_rows", "size", "room")),
        *((name, c_void_p) for name in ("places", "counts", "numbers")),
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

    def job(self, x: Tensor, outs: Sequence[Tensor], add: bool) -> LinearJob:
        """Valid until the next one is made."""
        check(x, self.size_in)
        for job, size_out, out in zip(self._jobs, self.sizes_out, outs, strict=True):
            check(out, size_out)
            job.out = out.data_ptr()
        return LinearJob(x.data_ptr(), *x.shape, self._address, len(outs), add)


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


def check(tensor: Tensor, size: int) -> None:
    assert tensor.dtype == torch.float32, f"float32 is wanted, not {tensor.dtype}"
    assert tensor.is_contiguous(), "contiguous memory is wanted"
    assert tensor.shape[-1] == size, f"the last axis is {tensor.shape[-1]} long, not {size}"
