"""How a context is copied between pools that differ: by tokens, not by pages."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from bus.transfers import PoolShape

from .casting import Cast, cast_between
from .heads import part_of
from .layout import Offsets, Runs, coalesce, page_offsets, run_starts


def cast_for(source: PoolShape, target: PoolShape) -> Cast | None:
    """What has to be done with numbers of the source before they are the target's."""
    if source.layout is None or target.layout is None:
        return None
    return cast_between(source.layout.dtype, target.layout.dtype)


def runs_between(
    ours: PoolShape, theirs: PoolShape, layer: int, first: int, pages: tuple[Offsets, Offsets]
) -> Runs:
    """How to copy one layer of our pages, number ``first`` and following of a context, into *all*
    of theirs for it; both begin with the same token. Where `cast_for` says that numbers change,
    ``num_bytes`` counts theirs."""
    local, remote = pages
    if (theirs.page_size, theirs.page_bytes) != (ours.page_size, ours.page_bytes):
        return relay(ours, theirs, layer, first, pages)
    if cast_for(ours, theirs) or part_of(ours.layout, theirs.layout)[1:] != _whole(ours):
        return relay(ours, theirs, layer, first, pages)
    return coalesce(ours, theirs, layer, local, remote[first : first + len(local)])


def _whole(shape: PoolShape) -> tuple[int, int]:
    """The end of `part_of` where all heads are wanted."""
    return part_of(shape.layout, shape.layout)[1:]


class _Tokens(Struct, frozen=True, eq=False):
    """How one side's tokens lie, as far as they are copied."""

    shape: PoolShape
    pages: Offsets
    token_bytes: int
    """Of the keys of a token, or its values."""
    skipped_bytes: int
    """At the beginning of each: of heads that the other side does not have."""

    def begins(self, layer: int, tokens: Offsets, half: int) -> Offsets:
        """Where the keys (half 0) or values (half 1) of tokens of the context begin."""
        page, slot = tokens // self.shape.page_size, tokens % self.shape.page_size
        in_page = (half * self.shape.page_size + slot) * self.token_bytes + self.skipped_bytes
        return page_offsets(self.shape, layer, self.pages[page]) + in_page


def relay(
    ours: PoolShape, theirs: PoolShape, layer: int, first: int, pages: tuple[Offsets, Offsets]
) -> Runs:
    """How to copy one layer of our pages between pools whose pages, numbers or heads differ.

    ``pages`` are ours, number ``first`` and following of a context, and *all* of theirs for it;
    both begin with the same token. Keys and values lie apart, so that a token is two stretches:

    ```
    ours    | k0 k1 k2 k3 | v0 v1 v2 v3 |          pages of 4 tokens
    theirs  | k0 k1 | v0 v1 |   | k2 k3 | v2 v3 |  pages of 2
    ```

    The runs are maximal where pages are adjacent within one half of a page. Where they have some of
    our heads only, each token is a run of its own.
    """
    local, remote = pages
    skipped, wanted, heads = part_of(ours.layout, theirs.layout)
    piece = math.gcd(ours.page_size, theirs.page_size) if wanted == heads else 1
    numbers = np.arange(len(local) * ours.page_size // piece) * piece
    begins = numbers + first * ours.page_size
    inside = begins < len(remote) * theirs.page_size
    numbers, begins = numbers[inside], begins[inside]
    our_bytes, their_bytes = _token_bytes(ours), _token_bytes(theirs)
    here = _Tokens(ours, local, our_bytes, skipped * our_bytes // heads)
    there = _Tokens(theirs, remote, their_bytes, 0)
    sizes = np.full(len(numbers), piece * their_bytes)
    halves = [
        Runs(here.begins(layer, numbers, half), there.begins(layer, begins, half), sizes)
        for half in range(2)
    ]
    return _joined(halves, cast_for(ours, theirs))


def _token_bytes(shape: PoolShape) -> int:
    return shape.page_bytes // (2 * shape.page_size)


def _joined(parts: list[Runs], cast: Cast | None) -> Runs:
    """One after the other, with what is adjacent on both sides as one run."""
    local = np.concatenate([part.local for part in parts])
    remote = np.concatenate([part.remote for part in parts])
    num_bytes = np.concatenate([part.num_bytes for part in parts])
    local_bytes = cast.source_bytes(num_bytes) if cast else num_bytes
    breaks = (np.diff(local) != local_bytes[:-1]) | (np.diff(remote) != num_bytes[:-1])
    starts = run_starts(breaks, len(local))
    if not len(starts):
        return Runs(local, remote, num_bytes)
    return Runs(local[starts], remote[starts], np.add.reduceat(num_bytes, starts))
