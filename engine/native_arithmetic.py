"""The network's parts by our own kernels: float32 on the CPU, the same bits in every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace
from torch import Tensor

from .arithmetic import Linear, Linears, Paging, Separately
from .backend import Weights
from .huge_memory import HugeArena
from .kernel_jobs import Layer, Layers, Runs
from .kernels import Kernels
from .packing import Packed, packed, packed_int8
from .ragged import Batch, lay_out_tokens
from .runner import Row
from .shortlists import Scores, Shortlists, Wanted

PACKINGS: dict[Weights, Callable[[Tensor], Packed]] = {"float32": packed, "int8": packed_int8}


class NativeLinear(Struct, frozen=True):
    kernels: Kernels
    layer: Layers
    """Of one."""

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        return self.kernels.linear(x, self.layer, add)


class NativeLinears(Struct, frozen=True):
    kernels: Kernels
    layers: Layers

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        return self.kernels.linears(x, self.layers)


class NativeNorm(Struct, frozen=True):
    kernels: Kernels
    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.kernels.norm(x, self.weight, self.epsilon)


class NativeAttention:
    """See `Attending`."""

    def __init__(self, kernels: Kernels, rows: Sequence[Row], paging: Paging) -> None:
        self.batch = lay_out_tokens(rows, paging.page_size)
        self._kernels = kernels
        self._runs = _runs(rows, self.batch, paging.page_size)
        self._turn = _turn(self.batch, paging)

    def write(self, cache: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        self._kernels.write(cache, (queries, keys, values), self._turn, self._runs)
        return queries

    def attend(
        self, cache: Tensor, queries: Tensor, num_kv_heads: int, window: int | None = None
    ) -> Tensor:
        return self._kernels.attend(cache, queries, num_kv_heads, window, self._runs)


class NativeArithmetic:
    """Weights are packed into memory of its own."""

    def __init__(self, kernels: Kernels, weights: Weights = "float32") -> None:
        self.kernels = kernels
        self.weights: Weights = weights
        self._arena = HugeArena()

    def linear(self, weight: Tensor, bias: Tensor | None) -> NativeLinear:
        kept = self._kept(PACKINGS[self.weights](weight))
        return NativeLinear(self.kernels, Layers(Layer(kept, bias)))

    def together(self, linears: Sequence[Linear]) -> Linears:
        """Separately where adapters wrap one of them."""
        plain = [linear for linear in linears if isinstance(linear, NativeLinear)]
        if len(plain) < len(linears):
            return Separately(linears)
        layers = [layer for linear in plain for layer in linear.layer.layers]
        return NativeLinears(self.kernels, Layers(*layers))

    def _kept(self, weight: Packed) -> Packed:
        scales = None if weight.scales is None else self._arena.copied(weight.scales)
        return replace(weight, panels=self._arena.copied(weight.panels), scales=scales)

    def norm(self, weight: Tensor, epsilon: float) -> NativeNorm:
        return NativeNorm(self.kernels, weight, epsilon)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return self.kernels.gated(gate, up)

    def shortlists(self, scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
        return self.kernels.shortlists(scores, wanted)

    def attention(self, rows: Sequence[Row], paging: Paging) -> NativeAttention:
        return NativeAttention(self.kernels, rows, paging)


def _runs(rows: Sequence[Row], batch: Batch, page_size: int) -> Runs:
    counts = np.array([len(row.tokens) for row in rows], np.int64)
    lengths = np.array([len(row.pages) for row in rows], np.int64)
    return Runs(
        begins=counts.cumsum() - counts,
        counts=counts,
        positions=np.array([row.position for row in rows], np.int64),
        tables=lengths.cumsum() - lengths,
        pages=np.concatenate([row.pages for row in rows]),
        slots=batch.slots,
        page_size=page_size,
    )


def _turn(batch: Batch, paging: Paging) -> tuple[Tensor, Tensor]:
    """Angles are rounded to float32 as in `rotation`; their cosines and sines are not computed in
    float32, where a vector of them may differ from one alone in the last bit."""
    frequencies = paging.frequencies.numpy()
    angles = (batch.positions.astype(np.float32)[:, None] * frequencies).astype(np.float64)
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return torch.from_numpy(cosines), torch.from_numpy(sines)
