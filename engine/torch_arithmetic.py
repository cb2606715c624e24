"""The network's parts in plain torch, on any device and in any dtype.

The reference that kernels are measured and tested against, and what computes where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from .arithmetic import Linear, Paging, Separately
from .attention import PagedAttention
from .backend import Weights
from .ragged import lay_out
from .rope import rotation
from .runner import Row
from .shortlists import Scores, Shortlists, Wanted, shortlists

FEW_ROWS = range(2, 7)
"""Batches that torch's own order of a CPU product serves 1.3 to 2.6 times slower (measured)."""


class TorchLinear(Struct, frozen=True):
    """``weight`` is ``[out, in]``."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        product = self._product(x)
        return product if add is None else add + product

    def _product(self, x: Tensor) -> Tensor:
        if len(x) not in FEW_ROWS or x.device.type != "cpu":
            return functional.linear(x, self.weight, self.bias)
        # Copied into rows: everything after it would be slower on columns than this copy is.
        product = (self.weight @ x.T).T.contiguous()
        return product if self.bias is None else product + self.bias


class TorchNorm(Struct, frozen=True):
    weight: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class TorchArithmetic(Struct, frozen=True):
    """``weights`` are kept in ``dtype``, none rounded further."""

    device: torch.device
    dtype: torch.dtype
    weights: Weights = "float32"

    def linear(self, weight: Tensor, bias: Tensor | None) -> TorchLinear:
        return TorchLinear(weight, bias)

    def together(self, linears: Sequence[Linear]) -> Separately:
        return Separately(linears)

    def norm(self, weight: Tensor, epsilon: float) -> TorchNorm:
        return TorchNorm(weight, epsilon)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return functional.silu(gate) * up

    def shortlists(self, scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
        return shortlists(scores, wanted)

    def attention(self, rows: Sequence[Row], paging: Paging) -> PagedAttention:
        batch = lay_out(rows, paging.page_size)
        positions = torch.from_numpy(batch.positions).to(self.device)
        turn = rotation(positions, paging.frequencies, self.dtype)
        return PagedAttention(batch, paging.page_size, turn)
