"""Prompts as chains of page hashes: how actors speak of cached prefixes without sending tokens.

```
tokens   |<- page 0 ->|<- page 1 ->|<- page 2 ->|<- not a full page ->|
hashes        h0            h1           h2
              h(0, page 0)  h(h0, page 1)
```

A hash stands for its page and everything before it, so two prompts have as many pages in common as
their chains have hashes. It has no key and 64 bits: whoever mistakes two prompts for one sends a
request to an engine that has not cached it, and nothing worse, since engines compare tokens.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from .tokens import ITEM_BYTES, Tokens

ROOT: Final = 0
"""What comes before the first page."""
HASH_BYTES: Final = 8


def page_hash(parent: int, packed: bytes) -> int:
    """Of a full page of packed tokens after the page ``parent``."""
    told = parent.to_bytes(HASH_BYTES, "little") + packed
    return int.from_bytes(blake2b(told, digest_size=HASH_BYTES).digest(), "little")


def chain(prompt: Tokens, page_size: int, adapter: str = "") -> tuple[int, ...]:
    """The hashes of the full pages of a prompt, first page first: of KV that is computed with the
    adapter, which is a different one from the first page on."""
    packed, size = prompt.packed, page_size * ITEM_BYTES
    hashes: list[int] = []
    parent = ROOT
    for begin in range(0, len(packed) - size + 1, size):
        page = packed[begin : begin + size]
        parent = page_hash(parent, page if begin else page + adapter.encode())
        hashes.append(parent)
    return tuple(hashes)


def pack(hashes: Iterable[int]) -> bytes:
    """For the wire: little-endian, 8 bytes each."""
    return _little_endian(array("Q", hashes)).tobytes()


def unpack(packed: bytes) -> tuple[int, ...]:
    """Raises: ValueError: the bytes are not whole hashes."""
    if len(packed) % HASH_BYTES:
        raise ValueError(f"page hashes take {HASH_BYTES} bytes each: {len(packed)} bytes")
    return tuple(_little_endian(array("Q", packed)))


def _little_endian(hashes: array[int]) -> array[int]:
    if sys.byteorder == "big":  # pragma: no cover
        hashes.byteswap()
    return hashes
