"""The few rules of protobuf's wire format that OTLP's spans need: tags, lengths, numbers.

```
| tag: field number << 3 | wire type |  VARINT 0: a number, seven bits a byte, low ones first
                                        I64    1: eight bytes, low ones first
                                        LEN    2: a length as a varint, then so many bytes
                                        I32    5: four bytes, low ones first
```

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
I64: Final = 1
LEN: Final = 2
I32: Final = 5

_BITS_64: Final = (1 << 64) - 1


def tag(field: int, wire_type: int) -> bytes:
    """Of a field numbered 1 to 15, which is one byte; those numbered higher take two."""
    return _long_varint(field << 3 | wire_type)


def _long_varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_SHORT: Final = tuple(_long_varint(value) for value in range(1024))
"""Lengths and counts are nearly always among these."""


def varint(value: int) -> bytes:
    """Of an int64: a negative one is its two's complement, in ten bytes."""
    if 0 <= value < len(_SHORT):
        return _SHORT[value]
    return _long_varint(value & _BITS_64)


def sized(payload: bytes) -> bytes:
    """The payload of a LEN field with its length before it."""
    size = len(payload)
    return (_SHORT[size] if size < len(_SHORT) else _long_varint(size)) + payload


def text(tag: bytes, value: str) -> bytes:
    """A whole string field; nothing where it is empty, as proto3 has it."""
    return tag + sized(utf8(value)) if value else b""


def utf8(value: str) -> bytes:
    """What has no bytes there, half a surrogate pair, becomes a question mark."""
    return value.encode("utf-8", "replace")
