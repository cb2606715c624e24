"""How many KV pages fit beside a model's weights into the memory that is free.

```
free memory  |<- weights ->|<- workspace ->|<------- KV pages ------->|  left to others |
                                            a size, or a share of the rest
```
"""

from __future__ import annotations

import re
from typing import TypeAlias

from msgspec import Struct

WORKSPACE_BYTES = 128 << 20
"""For what a step computes with besides weights and pages."""

_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]iB|B)")
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")


class Share(Struct, frozen=True):
    """Of what is free beside the weights."""

    fraction: float

    def __str__(self) -> str:
        return f"{self.fraction * 100:g}%"


class Size(Struct, frozen=True):
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.num_bytes}B"


KvMemory: TypeAlias = Share | Size


class Demand(Struct, frozen=True):
    """What a model takes on its device."""

    model: str
    dtype: str
    weights_bytes: int
    page_bytes: int
    """One page over all layers."""


class DoesNotFit(Exception):
    """There is not enough memory for this model, or for as many pages as were asked for."""


def read_size(text: str) -> Size:
    """``512MiB``, ``1.5GiB``, ...

    Raises:
        ValueError: it is none of these.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size: give one like 512MiB or 4GiB")
    return Size(int(float(found[1]) * _UNITS[found[2]]))


def read_kv_memory(text: str) -> KvMemory:
    """``512MiB``, ``4GiB``, or ``40%``.

    Raises:
        ValueError: it is none of these.
    """
    if found := _SHARE.fullmatch(text.strip()):
        return _share(text, float(found[1]))
    try:
        return read_size(text)
    except ValueError as error:
        raise ValueError(f"{error}, or a share like 40%") from None


def _share(text: str, percent: float) -> Share:
    if not 0 < percent <= 100:
        raise ValueError(f"{text!r}: a share is above 0% and at most 100%")
    return Share(percent / 100)


def kv_pages(wanted: KvMemory, demand: Demand, free_bytes: int) -> int:
    """How many pages to make.

    Raises:
        DoesNotFit: the weights, or the size that was asked for, are more than is free; or not one
            page fits into it. The message says what there is and what to do.
    """
    rest = free_bytes - demand.weights_bytes - WORKSPACE_BYTES
    if rest < demand.page_bytes:
        raise DoesNotFit(_no_room(demand, free_bytes))
    if isinstance(wanted, Size) and wanted.num_bytes > rest:
        raise DoesNotFit(
            f"{_shown(wanted.num_bytes)} of KV are asked for, {_shown(rest)} are free beside the "
            f"weights of {demand.model} in {demand.dtype}: give --kv-memory at most that"
        )
    num_bytes = wanted.num_bytes if isinstance(wanted, Size) else int(rest * wanted.fraction)
    if num_bytes < demand.page_bytes:
        raise DoesNotFit(
            f"{_shown(num_bytes)} for KV hold no page: one takes {_shown(demand.page_bytes)} over "
            "all layers; give more --kv-memory or a smaller --page-size"
        )
    return num_bytes // demand.page_bytes


def _no_room(demand: Demand, free_bytes: int) -> str:
    smaller = "" if demand.dtype != "float32" else ", --dtype bfloat16"
    return (
        f"{demand.model} does not fit: its weights take {_shown(demand.weights_bytes)} in "
        f"{demand.dtype}, a step {_shown(WORKSPACE_BYTES)} and a page of KV "
        f"{_shown(demand.page_bytes)}; {_shown(free_bytes)} are free: give a smaller model"
        f"{smaller}, or free memory"
    )


def _shown(num_bytes: int) -> str:
    if num_bytes >= 1 << 30:
        return f"{num_bytes / (1 << 30):.1f} GiB"
    return f"{num_bytes / (1 << 20):.1f} MiB"
