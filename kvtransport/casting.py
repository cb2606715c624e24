"""Numbers of one type as those of another: rounded to the nearest, never silently beyond its range.

bfloat16 is the upper half of a float32, which is all that numpy needs to know of it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from .layout import Bytes

ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Types that can be made of each other."""


class DoesNotFit(ValueError):
    """A number is too large for the other type."""

    def __init__(self, value: float, target: str) -> None:
        super().__init__(f"{value:g} does not fit {target}: start both engines with one --dtype")
        self.value, self.target = value, target


class Cast(Struct, frozen=True):
    """From one of `ITEM_BYTES` to another."""

    source: str
    target: str

    def source_bytes(self, target_bytes: Any) -> Any:
        """Of the numbers that become so many bytes."""
        return target_bytes // ITEM_BYTES[self.target] * ITEM_BYTES[self.source]

    def __call__(self, content: Bytes) -> Bytes:
        """
        Raises:
            DoesNotFit: a finite number would become infinite.
        """
        return _from_float32(_to_float32(content, self.source), self.target)


def cast_between(source: str, target: str) -> Cast | None:
    """None where nothing changes."""
    return None if source == target else Cast(source, target)


def _to_float32(content: Bytes, source: str) -> NDArray[np.float32]:
    if source == "float32":
        return content.view(np.float32)
    if source == "float16":
        return content.view(np.float16).astype(np.float32)
    return (content.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _from_float32(numbers: NDArray[np.float32], target: str) -> Bytes:
    if target == "float32":
        return numbers.view(np.uint8)
    if target == "float16":
        with np.errstate(over="ignore"):
            halves = numbers.astype(np.float16)
        _check(numbers, np.isinf(halves), target)
        return halves.view(np.uint8)
    upper = _upper_halves(numbers)
    _check(numbers, (upper & 0x7FFF) == 0x7F80, target)
    return upper.view(np.uint8)


def _upper_halves(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """To the nearest, and to an even one of two that are equally near; no number becomes none."""
    bits = numbers.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    nan = np.isnan(numbers)
    if nan.any():
        rounded = np.where(nan, (bits >> 16) | 0x40, rounded)
    return rounded.astype(np.uint16)


def _check(numbers: NDArray[np.float32], infinite: NDArray[np.bool_], target: str) -> None:
    if infinite.any():
        beyond = numbers[infinite & np.isfinite(numbers)]
        if len(beyond):
            raise DoesNotFit(float(beyond[0]), target)
