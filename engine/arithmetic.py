"""What the network is made of, as whoever computes it provides it: torch, or our own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from torch import Tensor

from .backend import Weights
from .ragged import Batch
from .runner import Row
from .shortlists import Scores, Shortlists, Wanted


class Linear(Protocol):
    def __call__(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """``[tokens, in]`` to ``[tokens, out]``. ``add`` is added, and its memory may be the
        result's."""
        ...


class Linears(Protocol):
    """Layers that see the same tokens."""

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        """What each of them makes of ``x``."""
        ...


class Separately(Struct, frozen=True):
    """One after the other."""

    linears: Sequence[Linear]

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        return [linear(x) for linear in self.linears]


class Norm(Protocol):
    """Root mean square normalisation over the last axis."""

    def __call__(self, x: Tensor) -> Tensor: ...


class Attending(Protocol):
    """Attention of one batch over a paged KV cache.

    ``cache`` is one layer of the pool as ``[num_pages * 2 * page_size, num_kv_heads * head_dim]``.
    """

    batch: Batch

    def write(self, cache: Tensor, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Turn queries ``[tokens, num_heads, head_dim]`` and keys by their positions and put keys
        and values ``[tokens, num_kv_heads, head_dim]`` into the pages. The turned queries, which
        may have the memory of those given."""
        ...

    def attend(
        self, cache: Tensor, queries: Tensor, num_kv_heads: int, window: int | None = None
    ) -> Tensor:
        """What each token finds in its context: ``[tokens, num_heads, head_dim]`` in and out.

        With a ``window``, a token looks at that many tokens at most, itself included. Reads only
        slots of the rows' own contexts, which `write` or an earlier step has filled.
        """
        ...


class Paging(Struct, frozen=True):
    """What is the same in all batches."""

    page_size: int
    frequencies: Tensor
    """Radians per position of each pair of a head, ``[head_dim / 2]``, float32."""


class Arithmetic(Protocol):
    @property
    def weights(self) -> Weights:
        """What `linear` makes of weights."""
        ...

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """``weight`` is ``[out, in]``."""
        ...

    def together(self, linears: Sequence[Linear]) -> Linears:
        """As one where it can: these layers, or what wraps them."""
        ...

    def norm(self, weight: Tensor, epsilon: float) -> Norm: ...

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """``silu(gate) * up``; may use the memory of both."""
        ...

    def attention(self, rows: Sequence[Row], paging: Paging) -> Attending: ...

    def shortlists(self, scores: Scores, wanted: Sequence[Wanted]) -> Shortlists:
        """See `Shortlisting`; what is on them does not depend on who looks for it."""
        ...
