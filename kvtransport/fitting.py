"""Whether the pages of one pool can go to another, and what keeps them from it."""

from __future__ import annotations

from typing import Any

from bus.transfers import PageLayout, PoolShape

from .casting import ITEM_BYTES
from .heads import uncovered

_LAID_OUT_AGAIN = ("dtype", "tensor_parallel", "rank")
"""May differ where both say how their pages are laid out."""


def differences(ours: PoolShape, theirs: PoolShape) -> list[str]:
    """Why our pages cannot go to the other pool; empty where they can.

    The number of pages may differ: an engine with more memory has more of them. So may the number
    of tokens in a page, the type of numbers, and the heads, where both say how their pages are laid
    out and we have all heads that they want.
    """
    if ours.layout and theirs.layout:
        pairs: list[tuple[str, Any, Any]] = [("num_layers", ours.num_layers, theirs.num_layers)]
        fixed = [n for n in ours.layout.__struct_fields__ if n not in _LAID_OUT_AGAIN]
        pairs += [(n, getattr(ours.layout, n), getattr(theirs.layout, n)) for n in fixed]
        return [*_unequal(pairs), *_beyond(ours.layout, theirs.layout)]
    names = ("num_layers", "page_size", "page_bytes", "fingerprint")
    return _unequal([(name, getattr(ours, name), getattr(theirs, name)) for name in names])


def _beyond(ours: PageLayout, theirs: PageLayout) -> list[str]:
    """What no layout can mend."""
    found = []
    if not {ours.dtype, theirs.dtype} <= {*ITEM_BYTES}:
        found += _unequal([("dtype", ours.dtype, theirs.dtype)])
    if ours.num_kv_heads == theirs.num_kv_heads and (why := uncovered(ours, theirs)):
        found.append(why)
    return found


def _unequal(pairs: list[tuple[str, Any, Any]]) -> list[str]:
    return [
        f"{name} is {here!r} at the sender and {there!r} at the receiver"
        for name, here, there in pairs
        if here != there
    ]
