"""A grant: the signed right to write certain pages of one engine, once, for one flow and attempt.

The router carries it from the receiver to the sender as opaque bytes::

    | version, 1 byte | HMAC-SHA256 of the rest, 32 bytes | the grant as MessagePack |

The signature shows that an engine of this fleet made the grant, and that nobody changed it on the
way. It does not make it secret.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec
from msgspec import Struct

from bus.transfers import PoolShape
from bus.wire import GrantRefused

from .fitting import differences
from .layout import num_pages_of
from .protocol import VERSION

_VERSION = bytes([VERSION])
_SIGNATURE_BYTES = 32
_encoder = msgspec.msgpack.Encoder()


class Grant(Struct, frozen=True):
    """What the receiver tells whoever will write its pages."""

    engine: str
    """The receiver, and the epoch of its life: a restarted engine honours no older grant."""
    epoch: int
    serial: int
    """Tells the grants of one epoch apart."""
    flow: str
    attempt: int
    begin: int
    end: int
    """Tokens ``[begin, end)``; the pages hold them in order, the first one ``begin``."""
    pages: tuple[tuple[int, int], ...]
    """(first page, number of pages) runs in the receiver's pool."""
    shape: PoolShape
    address: bytes
    """Where the receiver's transport can be reached."""
    memory: bytes
    """What the receiver's transport gives peers so that they may write its pool."""
    lease_s: float
    expires_at: float
    """Unix seconds; the writer must have been heard of by then."""
    checked: bool = False
    """Whether the receiver wants checksums of what is written."""


_decoder = msgspec.msgpack.Decoder(Grant)


def seal(grant: Grant, key: bytes) -> bytes:
    """The grant as signed bytes, for anybody with the same ``key`` to `unseal`."""
    body = _encoder.encode(grant)
    return _VERSION + _sign(body, key) + body


def unseal(sealed: bytes, key: bytes, now: float) -> Grant:
    """The grant in ``sealed``, if an engine with this ``key`` made it and it has not expired.

    Raises:
        GrantRefused: ``bad_message`` where it is not such a grant, ``transfer_failed`` where it
            is too old.
    """
    grant = _decode(_verified(sealed, key))
    if now >= grant.expires_at:
        raise GrantRefused(
            "transfer_failed",
            f"the grant of engine {grant.engine!r} for flow {grant.flow!r} expired"
            f" {now - grant.expires_at:.1f} s ago: prepare the receiver again",
        )
    return grant


def check(grant: Grant, shape: PoolShape, begin: int, end: int) -> None:
    """Whether tokens ``[begin, end)`` of a pool of ``shape`` are what the grant is for.

    Raises:
        GrantRefused: ``incompatible`` layout, or ``bad_range``.
    """
    if unlike := differences(shape, grant.shape):
        raise GrantRefused(
            "incompatible", f"pages do not fit engine {grant.engine!r}: " + "; ".join(unlike)
        )
    if (begin, end) != (grant.begin, grant.end):
        raise GrantRefused(
            "bad_range",
            f"tokens [{begin}, {end}) were to be sent, and the grant of engine {grant.engine!r}"
            f" is for [{grant.begin}, {grant.end})",
        )
    if begin % shape.page_size:
        raise GrantRefused(
            "bad_range",
            f"token {begin} is inside a page of {shape.page_size} tokens here, and engine"
            f" {grant.engine!r} has pages of {grant.shape.page_size}: send from another engine",
        )


def check_range(shape: PoolShape, begin: int, end: int, num_pages: int) -> None:
    """Raises ValueError where tokens ``[begin, end)`` cannot lie in ``num_pages`` granted pages."""
    if not 0 <= begin <= end or begin % shape.page_size:
        raise ValueError(
            f"tokens [{begin}, {end}) cannot be granted: begin must be a multiple of the page"
            f" size, {shape.page_size}, and not after end"
        )
    needed = num_pages_of(shape, begin, end)
    if num_pages != needed:
        raise ValueError(f"tokens [{begin}, {end}) take {needed} pages: {num_pages} were given")


def _sign(body: bytes, key: bytes) -> bytes:
    return hmac.new(key, _VERSION + body, hashlib.sha256).digest()


def _verified(sealed: bytes, key: bytes) -> bytes:
    head = len(_VERSION) + _SIGNATURE_BYTES
    version, signature, body = sealed[:1], sealed[1:head], sealed[head:]
    if version != _VERSION or not body:
        raise GrantRefused(
            "bad_message", f"{len(sealed)} bytes that are not a grant of this version"
        )
    if not hmac.compare_digest(signature, _sign(body, key)):
        raise GrantRefused(
            "bad_message",
            "the grant's signature is wrong: it was changed on the way, or its engine has another"
            " fleet key",
        )
    return body


def _decode(body: bytes) -> Grant:
    """Signed by our own fleet, so only an engine of another version could have made it differ."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise GrantRefused("bad_message", f"the grant cannot be read: {error}") from None
