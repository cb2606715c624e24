"""The network's parts in torch, so that a token's bits do not depend on what is computed with it.

A library of products chooses the order of its sums by the shape, and so by the company. But it does
so in few ways: from a handful of rows on, those of CPUs add up a row the same way however many
there are. Here every product has a multiple of eight rows, and attention goes through a context in
spans of 256 tokens counted from its first. That a row then has the same bits among eight and among
many is tried when a shape is first used; where it has not, each row is computed alone, which is
slow but the same everywhere. Everything else is done row by row by torch itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional

from .arithmetic import Linear, Paging, Separately
from .backend import Weights
from .invariant_attention import InvariantAttention
from .ragged import lay_out
from .rope import steady_rotation
from .runner import Row
from .shortlists import Scores, Shortlists, Wanted, shortlists
from .torch_arithmetic import TorchNorm
from .whole_rows import filled_up, rows_agree

logger = logging.getLogger(__name__)

ALONE = 32768
"""Numbers that torch leaves to one thread: more are cut between threads in the midst of rows, and
the last few before a cut are computed by other instructions, to other last bits."""
EVEN = 64
"""Rows of a multiple of so many numbers end where the widest instructions do."""


class InvariantLinear(Struct, frozen=True):
    """``weight`` is ``[out, in]``."""

    weight: Tensor
    bias: Tensor | None
    is_whole: bool
    """Many rows may be computed at once."""

    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        product = self._product(filled_up(x))[: len(x)]
        return product if add is None else add + product

    def _product(self, x: Tensor) -> Tensor:
        parts = (x,) if self.is_whole else torch.split(x, 1)
        products = [functional.linear(part, self.weight, self.bias) for part in parts]
        return products[0] if len(products) == 1 else torch.cat(products)


class InvariantArithmetic:
    """``weights`` are kept in ``dtype``, none rounded further."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._whole: dict[tuple[int, ...], bool] = {}
        self.weights: Weights = "float32"

    def linear(self, weight: Tensor, bias: Tensor | None) -> InvariantLinear:
        num_out, num_in = weight.shape

        def product(x: Tensor) -> Tensor:
            return functional.linear(x, weight, bias)

        return InvariantLinear(weight, bias, self._is_whole((num_out, num_in), product, num_in))

    def together(self, linears: Sequence[Linear]) -> Separately:
        return Separately(linears)

    def norm(self, weight: Tensor, epsilon: float) -> TorchNorm:
        return TorchNorm(weight, epsilon)

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        width = gate.shape[1]
        num_rows = 1 if width % EVEN else max(1, ALONE // width)
        return torch.cat([functional.silu(part) for part in torch.split(gate, num_rows)]) * up

    def shortlists(self, scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
        return shortlists(scores, wanted)

    def attention(self, rows: Sequence[Row], paging: Paging) -> InvariantAttention:
        batch = lay_out(rows, paging.page_size)
        turn = steady_rotation(batch.positions, paging.frequencies.cpu(), self._dtype, self._device)
        return InvariantAttention(batch, paging.page_size, turn, self._is_whole)

    def _is_whole(
        self, shape: tuple[int, ...], product: Callable[[Tensor], Tensor], num_in: int
    ) -> bool:
        if shape not in self._whole:
            like = torch.empty(0, dtype=self._dtype, device=self._device)
            agree = self._whole[shape] = rows_agree(product, num_in, like)
            if not agree:
                logger.warning("products of shape %s are computed row by row: slow", shape)
        return self._whole[shape]
