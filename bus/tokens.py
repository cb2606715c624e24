"""A sequence of token ids that travels as it lies in memory: packed little-endian int32."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

ITEM_BYTES = 4
MAX_TOKEN = 2**31 - 1


class Tokens(Sequence[int]):
    """Immutable token ids. Slicing, comparing and hashing work on the packed bytes.

    Raises:
        ValueError: an id is negative or above 2**31 - 1, or the bytes are not whole int32s.
    """

    __slots__ = ("packed",)
    packed: bytes

    def __init__(self, ids: Iterable[int] = ()) -> None:
        try:
            # An array takes bytes for packed items; here every byte is an id, as in any iterable.
            numbers = array("i", list(ids) if isinstance(ids, bytes | bytearray) else ids)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"token ids are integers from 0 to {MAX_TOKEN}: {error}") from None
        if numbers and min(numbers) < 0:
            raise ValueError(f"token ids are not negative: {min(numbers)}")
        object.__setattr__(self, "packed", _little_endian(numbers).tobytes())

    @classmethod
    def from_packed(cls, packed: bytes) -> Tokens:
        packed = bytes(packed)
        if len(packed) % ITEM_BYTES:
            raise ValueError(f"packed token ids take {ITEM_BYTES} bytes each: {len(packed)} bytes")
        # The sign is the highest bit of every last byte, and ASCII is what lacks that bit: this
        # looks at a long prompt hundreds of times faster than a loop.
        if not packed[ITEM_BYTES - 1 :: ITEM_BYTES].isascii():
            raise ValueError("token ids are not negative")
        return cls._trusted(packed)

    @classmethod
    def _trusted(cls, packed: bytes) -> Tokens:
        tokens = cls.__new__(cls)
        object.__setattr__(tokens, "packed", packed)
        return tokens

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("Tokens are immutable")

    def __len__(self) -> int:
        return len(self.packed) // ITEM_BYTES

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Tokens: ...
    def __getitem__(self, index: int | slice) -> int | Tokens:
        if isinstance(index, slice):
            return self._slice(index)
        first = range(len(self))[index] * ITEM_BYTES
        return int.from_bytes(self.packed[first : first + ITEM_BYTES], "little")

    def _slice(self, wanted: slice) -> Tokens:
        begin, end, step = wanted.indices(len(self))
        if step != 1:
            return Tokens(self._numbers()[wanted])
        return Tokens._trusted(self.packed[begin * ITEM_BYTES : max(begin, end) * ITEM_BYTES])

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers())

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens._trusted(self.packed + other.packed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and self.packed == other.packed

    def __reduce__(self) -> tuple[Callable[[bytes], Tokens], tuple[bytes]]:
        """To be copied and pickled, without being set."""
        return Tokens.from_packed, (self.packed,)

    def __hash__(self) -> int:
        return hash(self.packed)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self._numbers()[:8]))
        return f"Tokens([{shown}{', ...' if len(self) > 8 else ''}], len={len(self)})"

    def _numbers(self) -> array[int]:
        return _little_endian(array("i", self.packed))


def _little_endian(numbers: array[int]) -> array[int]:
    """To or from little-endian: on the machines we know, nothing to do."""
    if sys.byteorder == "big":  # pragma: no cover
        numbers.byteswap()
    return numbers
