"""Which KV heads a pool holds: all of a model's, or those of one rank of several.

```
8 heads, 2 ranks      | 0 1 2 3 | 4 5 6 7 |
8 heads, 4 ranks      | 0 1 | 2 3 | 4 5 | 6 7 |
2 heads, 4 ranks      | 0 | 0 | 1 | 1 |           each head twice
```
"""

from __future__ import annotations

from bus.transfers import PageLayout


def heads_of(layout: PageLayout) -> tuple[int, int]:
    """Heads ``[begin, end)`` of the model.

    Raises:
        ValueError: so many ranks cannot share so many heads.
    """
    heads, ranks, rank = layout.num_kv_heads, layout.tensor_parallel, layout.rank
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} of {ranks}: it must be from 0 to {ranks - 1}")
    if heads % ranks == 0:
        each = heads // ranks
        return rank * each, (rank + 1) * each
    if ranks % heads == 0:
        head = rank * heads // ranks
        return head, head + 1
    raise ValueError(
        f"{heads} KV heads cannot be shared by {ranks} ranks: one must divide the other"
    )


def uncovered(source: PageLayout, target: PageLayout) -> str:
    """Why one pool cannot fill all heads of another; empty where it can. A grant has one writer:
    what several ranks would have to write together is not granted."""
    try:
        (begin, end), (wanted_begin, wanted_end) = heads_of(source), heads_of(target)
    except ValueError as error:
        return str(error)
    if begin <= wanted_begin and wanted_end <= end:
        return ""
    return (
        f"the sender has KV heads [{begin}, {end}) and the receiver wants"
        f" [{wanted_begin}, {wanted_end})"
    )


def part_of(source: PageLayout | None, target: PageLayout | None) -> tuple[int, int, int]:
    """(first, number, of how many): which of the source's heads the target has."""
    if source is None or target is None:
        return 0, 1, 1
    (begin, end), (wanted_begin, wanted_end) = heads_of(source), heads_of(target)
    return wanted_begin - begin, wanted_end - wanted_begin, end - begin
