"""Attention over a paged KV cache, in plain torch.

The reference that faster kernels are measured and tested against. `index_select` of whole slots and
one fused attention per row, or per group of single-token rows.
"""

from __future__ import annotations

import torch
from msgspec import Struct
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .ragged import Batch, Chunk, Indices, Singles, within
from .rope import Rotation


class _ChunkPlan(Struct, frozen=True):
    begin: int
    end: int
    slots: Tensor
    mask: Tensor | None
    """``[new tokens, context]``, true where a token may look; None where it is a plain triangle."""


class _SinglesPlan(Struct, frozen=True):
    tokens: Tensor
    slots: Tensor
    """``[rows * longest]``."""
    mask: Tensor
    """``[rows, 1, 1, longest]``, true where a token may look."""


class _Plan(Struct, frozen=True):
    chunks: list[_ChunkPlan]
    singles: list[_SinglesPlan]


class PagedAttention:
    """See `Attending`."""

    def __init__(self, batch: Batch, page_size: int, turn: Rotation) -> None:
        self.batch, self._page_size, self._turn = batch, page_size, turn
        self._device = device = turn.cos.device
        self._slots = _tensor(batch.slots, device)
        self._plans: dict[int | None, _Plan] = {}

    def write(self, cache: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `Attending.write`."""
        cache.index_copy_(0, self._slots, self._turn.turn(keys).flatten(1))
        cache.index_copy_(0, self._slots + self._page_size, values.flatten(1))
        return self._turn.turn(queries)

    def attend(
        self, cache: Tensor, queries: Tensor, num_kv_heads: int, window: int | None = None
    ) -> Tensor:
        """See `Attending.attend`."""
        plan = self._plan(window)
        found = torch.empty_like(queries)
        for chunk in plan.chunks:
            context = self._read(cache, chunk.slots, (1, num_kv_heads))
            new = queries[chunk.begin : chunk.end]
            found[chunk.begin : chunk.end] = _attend_chunk(new, context, chunk.mask)
        for group in plan.singles:
            context = self._read(cache, group.slots, (len(group.tokens), num_kv_heads))
            new = queries.index_select(0, group.tokens)
            found.index_copy_(0, group.tokens, _attend_singles(new, context, group.mask))
        return found

    def _plan(self, window: int | None) -> _Plan:
        """Made once a batch for every window that its layers have."""
        if window not in self._plans:
            seen = within(self.batch, window)
            chunks = [_plan_chunk(chunk, self._device) for chunk in seen.chunks]
            singles = [_plan_singles(group, self._device) for group in seen.singles]
            self._plans[window] = _Plan(chunks, singles)
        return self._plans[window]

    def _read(self, cache: Tensor, slots: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Keys and values as ``[rows, num_kv_heads, context, head_dim]``."""
        num_rows, num_kv_heads = sizes
        shape = (num_rows, len(slots) // num_rows, num_kv_heads, cache.shape[1] // num_kv_heads)
        keys = cache.index_select(0, slots)
        values = cache.index_select(0, slots + self._page_size)
        return keys.view(shape).transpose(1, 2), values.view(shape).transpose(1, 2)


def _plan_chunk(chunk: Chunk, device: torch.device) -> _ChunkPlan:
    mask = _chunk_mask(chunk, device) if chunk.position or chunk.window else None
    return _ChunkPlan(chunk.begin, chunk.end, _tensor(chunk.slots, device), mask)


def _chunk_mask(chunk: Chunk, device: torch.device) -> Tensor:
    """Column ``j`` is token ``first + j`` of the context, row ``i`` is token ``position + i``."""
    size = (chunk.end - chunk.begin, len(chunk.slots))
    ahead = chunk.position - chunk.first
    mask = torch.ones(size, dtype=torch.bool, device=device).tril(ahead)
    return mask if chunk.window is None else mask.triu(ahead - chunk.window + 1)


def _plan_singles(group: Singles, device: torch.device) -> _SinglesPlan:
    lengths = _tensor(group.lengths, device)
    mask = torch.arange(group.slots.shape[1], device=device) < lengths[:, None]
    slots = _tensor(group.slots, device).flatten()
    return _SinglesPlan(_tensor(group.tokens, device), slots, mask[:, None, None, :])


def _attend_chunk(queries: Tensor, context: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
    heads_first = queries.transpose(0, 1)[None]
    found = scaled_dot_product_attention(
        heads_first, *context, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )
    return found[0].transpose(0, 1)


def _attend_singles(queries: Tensor, context: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Query heads that share a KV head stand in line as if they were tokens: nothing is copied."""
    num_rows, num_heads, head_dim = queries.shape
    num_kv_heads = context[0].shape[1]
    grouped = queries.view(num_rows, num_kv_heads, num_heads // num_kv_heads, head_dim)
    found = scaled_dot_product_attention(grouped, *context, attn_mask=mask)
    return found.reshape(num_rows, num_heads, head_dim)


def _tensor(indices: Indices, device: torch.device) -> Tensor:
    return torch.from_numpy(indices).to(device)
