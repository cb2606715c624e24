"""One encoder and one decoder for everything that crosses a wire."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

from .tokens import Tokens

T = TypeVar("T")

JSON_STARTS = b"{[ \t\r\n"
"""JSON begins with one of these; a MessagePack map or array never does (0x80 and above)."""

_FAILURES = (msgspec.DecodeError, ValueError, RecursionError)
"""What the decoders raise on bad bytes; the last where arrays are nested by the thousand."""


class Undecodable(ValueError):
    """The bytes are not the message they should be; the text says where and why."""


def _to_builtin(value: object) -> object:
    if isinstance(value, Tokens):
        return value.packed
    raise TypeError(f"no wire form for {type(value).__name__}")


def _from_builtin(kind: type, value: Any) -> object:
    if kind is Tokens and isinstance(value, bytes):
        return Tokens.from_packed(value)
    raise ValueError(f"cannot make {kind.__name__} of {type(value).__name__}")


_msgpack = msgspec.msgpack.Encoder(enc_hook=_to_builtin)
_json = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_json_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(message: object) -> bytes:
    """MessagePack, token ids as packed little-endian int32."""
    return _msgpack.encode(message)


def encode_json(message: object) -> bytes:
    return _json.encode(message)


@overload
def decode(payload: bytes, kind: type[T]) -> T: ...
@overload
def decode(payload: bytes, kind: Any) -> Any: ...
def decode(payload: bytes, kind: Any) -> Any:
    """The message of type ``kind`` (a Struct or a union of tagged ones) in MessagePack.

    A union has no `type`, so a type checker knows the result only where ``kind`` is one Struct.

    Raises:
        Undecodable: naming the field that is wrong.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind, dec_hook=_from_builtin)
    try:
        return decoder.decode(payload)
    except _FAILURES as error:
        raise Undecodable(str(error)) from None


def is_json(payload: bytes) -> bool:
    return payload != b"" and payload[0] in JSON_STARTS


@overload
def decode_public(payload: bytes, kind: type[T]) -> T: ...
@overload
def decode_public(payload: bytes, kind: Any) -> Any: ...
def decode_public(payload: bytes, kind: Any) -> Any:
    """The same from JSON or MessagePack, told apart by the first byte.

    Numbers in JSON are of any size: check ranges before one goes into MessagePack, which ends at
    64 bits.
    """
    if not is_json(payload):
        return decode(payload, kind)
    decoder = _json_decoders.get(kind)
    if decoder is None:
        decoder = _json_decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(payload)
    except _FAILURES as error:
        raise Undecodable(str(error)) from None
