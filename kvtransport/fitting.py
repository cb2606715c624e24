"""Whether the pages of one pool can go to another, and what keeps them from it."""

from __future__ import annotations

from typing import Any

from bus.transfers import PoolShape


def differences(ours: PoolShape, theirs: PoolShape) -> list[str]:
    """Why pages cannot go from one pool to the other; empty where they can.

    The number of pages may differ: an engine with more memory has more of them. The number of
    tokens in a page may differ, too, where both say how their pages are laid out.
    """
    if ours.layout and theirs.layout:
        pairs: list[tuple[str, Any, Any]] = [("num_layers", ours.num_layers, theirs.num_layers)]
        names = ours.layout.__struct_fields__
        pairs += [(n, getattr(ours.layout, n), getattr(theirs.layout, n)) for n in names]
    else:
        names = ("num_layers", "page_size", "page_bytes", "fingerprint")
        pairs = [(name, getattr(ours, name), getattr(theirs, name)) for name in names]
    return [
        f"{name} is {here!r} here and {there!r} there"
        for name, here, there in pairs
        if here != there
    ]
