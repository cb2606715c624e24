"""Attention over a paged KV cache in torch, each token's the same in every batch.

```
context  |<-- span 0 -->|<-- span 1 -->| ... |<-- span n, filled up with its last token -->|
         0             256            512
```

The scores of a span are products of one shape; one softmax goes over all of them, to whose sum what
is masked adds zero; and the spans' values are added one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .ragged import Batch, Indices
from .rope import Rotation
from .whole_rows import ROWS

SPAN = 256
QUERIES = 128
"""Tokens of a chunk whose scores are in memory at once."""

IsWhole: TypeAlias = Callable[[tuple[int, ...], Callable[[Tensor], Tensor], int], bool]
"""Whether rows of a product agree however many they are; by its shape, tried once."""

Flags: TypeAlias = NDArray[np.bool_]


class _Part(Struct, frozen=True):
    """Tokens of rows that have as many tokens each, and contexts that are gathered together."""

    tokens: Tensor
    """Places on the token axis, ``[rows * new]``."""
    slots: Tensor
    """``[rows * context]``; of whole spans."""
    hidden: Tensor
    """``[rows, 1, new, 1, context]``, true where a token may not look."""


class InvariantAttention:
    """See `Attending`."""

    def __init__(self, batch: Batch, page_size: int, turn: Rotation, is_whole: IsWhole) -> None:
        self.batch, self._page_size, self._turn, self._is_whole = batch, page_size, turn, is_whole
        self._device = turn.cos.device
        self._slots = torch.from_numpy(batch.slots).to(self._device)
        self._plans: dict[int | None, list[_Part]] = {}

    def write(self, cache: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """See `Attending.write`."""
        cache.index_copy_(0, self._slots, self._turn.turn(keys).flatten(1))
        cache.index_copy_(0, self._slots + self._page_size, values.flatten(1))
        return self._turn.turn(queries)

    def attend(
        self, cache: Tensor, queries: Tensor, num_kv_heads: int, window: int | None = None
    ) -> Tensor:
        """See `Attending.attend`. Computed in float32, rounded once."""
        if window not in self._plans:
            self._plans[window] = [self._part(*part) for part in _parts(self.batch, window)]
        found = torch.empty_like(queries)
        for part in self._plans[window]:
            keys = self._read(cache, part.slots, (len(part.hidden), num_kv_heads))
            values = self._read(
                cache, part.slots + self._page_size, (len(part.hidden), num_kv_heads)
            )
            new = queries.index_select(0, part.tokens).float()
            attended = self._attend(new, keys, values, part.hidden)
            found.index_copy_(0, part.tokens, attended.to(found.dtype))
        return found

    def _part(self, tokens: Indices, slots: Indices, hidden: Flags) -> _Part:
        found = (torch.from_numpy(it).to(self._device) for it in (tokens, slots, hidden))
        places, where, mask = found
        return _Part(places.flatten(), where.flatten(), mask[:, None, :, None, :])

    def _read(self, cache: Tensor, slots: Tensor, sizes: tuple[int, int]) -> Tensor:
        """``[rows * num_kv_heads, context, head_dim]``."""
        num_rows, num_kv_heads = sizes
        shape = (num_rows, len(slots) // num_rows, num_kv_heads, cache.shape[1] // num_kv_heads)
        read = cache.index_select(0, slots).view(shape).transpose(1, 2)
        return read.flatten(0, 1).float()

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        """``[rows * new, num_heads, head_dim]`` in and out. Query heads that share a KV head stand
        in line as if they were tokens."""
        num_rows, _, num_new, _, context = hidden.shape
        num_heads, head_dim = queries.shape[1:]
        num_kv_heads = len(keys) // num_rows
        group = num_heads // num_kv_heads
        lined = queries.view(num_rows, num_new, num_kv_heads, group, head_dim).transpose(1, 2)
        lined = (lined / math.sqrt(head_dim)).reshape(len(keys), num_new * group, head_dim)
        scores = torch.cat([self._product(lined, k.mT) for k in torch.split(keys, SPAN, 1)], -1)
        by_token = scores.view(num_rows, num_kv_heads, num_new, group, context)
        by_token.masked_fill_(hidden, -math.inf)
        weights = scores.softmax(-1)
        found = torch.zeros_like(lined)
        spans = torch.split(values, SPAN, 1)
        for part, span in zip(torch.split(weights, SPAN, -1), spans, strict=True):
            found += self._product(part, span)
        by_head = found.view(num_rows, num_kv_heads, num_new, group, head_dim).transpose(1, 2)
        return by_head.reshape(num_rows * num_new, num_heads, head_dim)

    def _product(self, rows: Tensor, matrices: Tensor) -> Tensor:
        """``[many, rows, in]`` by ``[many, in, out]``, in time for a multiple of `ROWS`
        rows."""
        count, num_in, num_out = rows.shape[1], *matrices.shape[1:]
        first = matrices[:1].expand(2, -1, -1)

        def product(x: Tensor) -> Tensor:
            return torch.bmm(x.float().expand(2, -1, -1), first)[1]

        if self._is_whole((num_out, num_in, SPAN), product, num_in):
            full = functional.pad(rows, (0, 0, 0, -count % ROWS))
            return torch.bmm(full, matrices)[:, :count]
        pieces = [
            torch.cat([row @ matrix for row in torch.split(one, 1)])
            for one, matrix in zip(rows, matrices, strict=True)
        ]
        return torch.stack(pieces)


def _parts(batch: Batch, window: int | None) -> Iterator[tuple[Indices, Indices, Flags]]:
    """Tokens ``[rows, new]``, slots ``[rows, context]`` and what is hidden of them."""
    for chunk in batch.chunks:
        for begin in range(chunk.begin, chunk.end, QUERIES):
            tokens = np.arange(begin, min(begin + QUERIES, chunk.end))
            seen = chunk.slots[: chunk.position + int(tokens[-1]) + 1 - chunk.begin]
            yield _part(batch, tokens[None], seen[None], window)
    for group in batch.singles:
        yield _part(batch, group.tokens[:, None], group.slots, window)


def _part(
    batch: Batch, tokens: Indices, slots: Indices, window: int | None
) -> tuple[Indices, Indices, Flags]:
    positions = batch.positions[tokens]
    first = 0 if window is None else max(0, int(positions.min()) - window + 1) // SPAN * SPAN
    missing = -slots.shape[1] % SPAN
    slots = np.pad(slots, ((0, 0), (0, missing)), mode="edge")[:, first:]
    places = np.arange(first, first + slots.shape[1])
    hidden = places > positions[..., None]
    if window is not None:
        hidden |= places <= positions[..., None] - window
    return tokens, np.ascontiguousarray(slots), hidden
