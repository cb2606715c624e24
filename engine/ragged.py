"""Rows of different lengths as one axis of tokens, with the KV slots that each of them touches.

```
rows     | row 0: a chunk of a prompt | row 1: one token | row 2: one token | row 3: a chunk ... |
tokens    0                            n                  n + 1              n + 2
```

A layer of the pool is seen as rows of one token's keys or values; a *slot* is the number of the row
with a token's keys, and its values are `page_size` rows further:

```
page p:  | keys of page_size tokens | values of page_size tokens |
slots     2 * p * page_size          (2 * p + 1) * page_size
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from .runner import Row

Indices: TypeAlias = NDArray[np.int64]


GROUP_SLOTS = 2560
"""Slots that are gathered at once for several rows: what then still lies in a core's cache when it
is used. A decode step of 16 rows gathered at once took twice as long (measured)."""


class Chunk(Struct, frozen=True):
    """A row of several tokens: each sees all tokens before it, ``position`` of them in pages; with
    a window, no more than the ``window`` last ones, itself included."""

    begin: int
    end: int
    """Its tokens are ``[begin, end)`` on the token axis."""
    position: int
    slots: Indices
    """Of the context from token ``first`` on, ``[position + end - begin - first]``."""
    first: int = 0
    window: int | None = None


class Singles(Struct, frozen=True):
    """Rows of one token whose contexts are gathered together: the longest is at most twice as long
    as the shortest."""

    tokens: Indices
    """Their places on the token axis, ``[rows]``."""
    lengths: Indices
    """Tokens of context that are seen, the new one included, ``[rows]``."""
    slots: Indices
    """``[rows, longest]``. Shorter contexts repeat their own last slot: unwritten memory, which
    may hold NaN, is never read."""


class Batch(Struct, frozen=True):
    """What a forward pass needs to know of its rows."""

    tokens: Indices
    positions: Indices
    slots: Indices
    """Where each token's keys go, ``[tokens]``."""
    ends: Indices
    """For every choice of every row, in order: where on the token axis its token is."""
    chunks: tuple[Chunk, ...] = ()
    singles: tuple[Singles, ...] = ()


def lay_out(rows: Sequence[Row], page_size: int) -> Batch:
    """Put the rows behind each other in their order, with the slots of all contexts.

    A row has at least one token and pages for its whole context; anything else is a bug in the
    scheduler.
    """
    tokens = lay_out_tokens(rows, page_size)
    ends = np.cumsum([len(row.tokens) for row in rows])
    return replace(
        tokens,
        chunks=tuple(_chunks(rows, ends, page_size)),
        singles=tuple(_groups_of_singles(rows, ends, page_size)),
    )


def lay_out_tokens(rows: Sequence[Row], page_size: int) -> Batch:
    """As `lay_out`, for whoever finds contexts by their pages: no chunks, no singles."""
    assert rows, "a batch has at least one row"
    for row in rows:
        assert len(row.tokens), "a row has at least one token"
        assert len(row.pages) * page_size >= _length(row), f"pages too few for {_length(row)}"
    ends = np.cumsum([len(row.tokens) for row in rows])
    return Batch(
        tokens=np.concatenate([row.tokens for row in rows]).astype(np.int64),
        positions=np.concatenate([_positions(row) for row in rows]),
        slots=np.concatenate([_slots(row.pages, _positions(row), page_size) for row in rows]),
        ends=np.concatenate(
            [np.arange(end - len(r.choices), end) for r, end in zip(rows, ends, strict=True)]
        ),
    )


def asked_of(rows: Sequence[Row]) -> list[Row]:
    """The ends of rows, of those tokens alone that something is to be known of: each token of a
    prompt has to be in the pages, but what the last layer makes of it is looked at for its last
    token only."""
    return [
        replace(row, tokens=row.tokens[-asked:], position=_length(row) - asked)
        for row in rows
        if (asked := len(row.choices))
    ]


def within(batch: Batch, window: int | None) -> Batch:
    """The batch as a layer sees it whose tokens look back at ``window`` tokens, themselves
    included: what no token of a row looks at is not gathered. None: at all of them."""
    if window is None:
        return batch
    chunks = tuple(_chunk_within(chunk, window) for chunk in batch.chunks)
    singles = tuple(_singles_within(group, window) for group in batch.singles)
    return replace(batch, chunks=chunks, singles=singles)


def _chunk_within(chunk: Chunk, window: int) -> Chunk:
    first = max(0, chunk.position - window + 1)
    return replace(chunk, slots=chunk.slots[first:], first=first, window=window)


def _singles_within(group: Singles, window: int) -> Singles:
    lengths = np.minimum(group.lengths, window)
    context = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    places = context + (group.lengths - lengths)[:, None]
    return Singles(group.tokens, lengths, np.take_along_axis(group.slots, places, axis=1))


def _length(row: Row) -> int:
    return row.position + len(row.tokens)


def _positions(row: Row) -> Indices:
    return np.arange(row.position, _length(row), dtype=np.int64)


def _slots(pages: NDArray[np.int32], positions: Indices, page_size: int) -> Indices:
    index, offset = np.divmod(positions, page_size)
    return pages[index].astype(np.int64) * (2 * page_size) + offset


def _chunks(rows: Sequence[Row], ends: Indices, page_size: int) -> Iterator[Chunk]:
    for row, end in zip(rows, ends.tolist(), strict=True):
        if len(row.tokens) > 1:
            context = np.arange(_length(row), dtype=np.int64)
            slots = _slots(row.pages, context, page_size)
            yield Chunk(end - len(row.tokens), end, row.position, slots)


def _groups_of_singles(rows: Sequence[Row], ends: Indices, page_size: int) -> Iterator[Singles]:
    singles = [(row, end - 1) for row, end in zip(rows, ends.tolist(), strict=True)]
    singles = [(row, place) for row, place in singles if len(row.tokens) == 1]
    group: list[tuple[Row, int]] = []
    for row, place in sorted(singles, key=lambda single: single[0].position):
        if group and not _belongs(row, group):
            yield _singles(group, page_size)
            group = []
        group.append((row, place))
    if group:
        yield _singles(group, page_size)


def _belongs(row: Row, group: list[tuple[Row, int]]) -> bool:
    """Whether a row, not shorter than the group's, is worth gathering together with them."""
    longest, shortest = _length(row), _length(group[0][0])
    return longest <= 2 * shortest and longest * (len(group) + 1) <= GROUP_SLOTS


def _singles(group: list[tuple[Row, int]], page_size: int) -> Singles:
    lengths = np.array([_length(row) for row, _ in group], np.int64)
    context = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
    slots = [
        _slots(row.pages, positions, page_size)
        for (row, _), positions in zip(group, context, strict=True)
    ]
    places = np.array([place for _, place in group], np.int64)
    return Singles(places, lengths, np.stack(slots))
