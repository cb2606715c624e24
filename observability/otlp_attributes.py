"""Attributes as OTLP has them on the wire: ``KeyValue`` messages, each with its length before it.

The same few hundred pairs come again with every flow, so what was encoded once is looked up.
"""

from __future__ import annotations

from struct import Struct as Layout
from typing import Final, TypeVar

from .protobuf import I64, LEN, VARINT, sized, tag, text, utf8, varint
from .spans import Attribute, Attributes

T = TypeVar("T")

MAX_KNOWN: Final = 4096
"""Pairs that are remembered. Flows' ids are among them, and each of those comes only for a while:
when there are so many, all are forgotten, and the frequent ones are back soon."""

_KEY: Final = tag(1, LEN)
_VALUE: Final = tag(2, LEN)
_STRING: Final = tag(1, LEN)
_BOOL: Final = tag(2, VARINT)
_INT: Final = tag(3, VARINT)
_DOUBLE: Final = tag(4, I64)
_ARRAY: Final = tag(5, LEN)
_ITEM: Final = tag(1, LEN)
_FLOAT: Final = Layout("<d")
_INT64: Final = range(-(1 << 63), 1 << 63)


class AttributeEncoder:
    """Not for several threads at once."""

    def __init__(self, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._pairs: dict[tuple[str, Attribute], bytes] = {}
        self._keys: dict[str, bytes] = {}

    def field(self, number: bytes, attributes: Attributes) -> bytes:
        """All of them, each as one item of the repeated field that ``number`` is the tag of."""
        if not attributes:
            return b""
        known, fresh = self._pairs.get, self._fresh
        return number + number.join([known(pair) or fresh(pair) for pair in attributes.items()])

    def _fresh(self, pair: tuple[str, Attribute]) -> bytes:
        key, value = pair
        message = sized((self._keys.get(key) or self._key(key)) + _VALUE + sized(_any(value)))
        if isinstance(value, str | tuple):  # 1, 1.0 and True would be one key of the dict
            _remember(self._pairs, pair, message, self._max_known)
        return message

    def _key(self, key: str) -> bytes:
        message = text(_KEY, key)
        _remember(self._keys, key, message, self._max_known)
        return message


def _remember(known: dict[T, bytes], key: T, message: bytes, limit: int) -> None:
    if len(known) >= limit:
        known.clear()
    known[key] = message


def _any(value: Attribute) -> bytes:
    """An ``AnyValue``. A number that int64 cannot hold is told as a string."""
    if isinstance(value, str):
        return _STRING + sized(utf8(value))
    if isinstance(value, bool):
        return _BOOL + varint(value)
    if isinstance(value, int):
        return _INT + varint(value) if value in _INT64 else _any(str(value))
    if isinstance(value, float):
        return _DOUBLE + _FLOAT.pack(value)
    return _ARRAY + sized(b"".join([_ITEM + sized(_any(item)) for item in value]))
