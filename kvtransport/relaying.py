"""How a context is copied between pools whose pages differ: by tokens, not by pages."""

from __future__ import annotations

import math

import numpy as np

from bus.transfers import PoolShape

from .layout import Offsets, Runs, coalesce, page_offsets, run_starts


def runs_between(
    ours: PoolShape, theirs: PoolShape, layer: int, first: int, pages: tuple[Offsets, Offsets]
) -> Runs:
    """How to copy one layer of our pages, number ``first`` and following of a context, into *all*
    of theirs for it; both begin with the same token."""
    local, remote = pages
    if theirs.page_size != ours.page_size:
        return relay(ours, theirs, layer, first, pages)
    return coalesce(ours, theirs, layer, local, remote[first : first + len(local)])


def relay(
    ours: PoolShape, theirs: PoolShape, layer: int, first: int, pages: tuple[Offsets, Offsets]
) -> Runs:
    """How to copy one layer of our pages between pools whose pages differ in size.

    ``pages`` are ours, number ``first`` and following of a context, and *all* of theirs for it;
    both begin with the same token. Keys and values lie apart, so that a token is two stretches:

    ```
    ours    | k0 k1 k2 k3 | v0 v1 v2 v3 |          pages of 4 tokens
    theirs  | k0 k1 | v0 v1 |   | k2 k3 | v2 v3 |  pages of 2
    ```

    The runs are maximal where pages are adjacent within one half of a page.
    """
    local, remote = pages
    piece = math.gcd(ours.page_size, theirs.page_size)
    numbers = np.arange(len(local) * ours.page_size // piece) * piece
    begins = numbers + first * ours.page_size
    inside = begins < len(remote) * theirs.page_size
    numbers, begins = numbers[inside], begins[inside]
    token_bytes = ours.page_bytes // (2 * ours.page_size)
    halves = [
        Runs(
            _tokens(ours, layer, local, numbers, half, token_bytes),
            _tokens(theirs, layer, remote, begins, half, token_bytes),
            np.full(len(numbers), piece * token_bytes),
        )
        for half in range(2)
    ]
    return _joined(halves)


def _tokens(
    shape: PoolShape, layer: int, pages: Offsets, tokens: Offsets, half: int, token_bytes: int
) -> Offsets:
    """Where the keys (half 0) or values (half 1) of these tokens of ``pages`` begin."""
    page, slot = tokens // shape.page_size, tokens % shape.page_size
    in_page = (half * shape.page_size + slot) * token_bytes
    return page_offsets(shape, layer, pages[page]) + in_page


def _joined(parts: list[Runs]) -> Runs:
    """One after the other, with what is adjacent on both sides as one run."""
    local = np.concatenate([part.local for part in parts])
    remote = np.concatenate([part.remote for part in parts])
    num_bytes = np.concatenate([part.num_bytes for part in parts])
    breaks = (np.diff(local) != num_bytes[:-1]) | (np.diff(remote) != num_bytes[:-1])
    starts = run_starts(breaks, len(local))
    if not len(starts):
        return Runs(local, remote, num_bytes)
    return Runs(local[starts], remote[starts], np.add.reduceat(num_bytes, starts))
