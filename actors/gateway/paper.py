"""The paper's sub-request calls, read and made our commands. Pure.

Field names are the paper's (``begin``, ``end``, ``kv_addr_info``) or those of its published code
(``kv_window_begin``, ``kv_window_end``, ``kv_append_metadata``). Ranges are half-open; a negative
index counts from the end of the prompt.

In the paper every engine has an address of its own; here the path or the body names the engine. A
`Ticket` travels in the place of the paper's address, opaque to whoever carries it, so that all
calls of one request are one flow of ours.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import Struct

from bus.codec import Undecodable, decode, encode

from .bodies import CompletionBody
from .errors import HttpError, bad


class Ticket(Struct, frozen=True):
    """What the sender and the receiver of one flow have to know."""

    flow: str
    receiver: str
    epoch: int
    grant: bytes


class Call(CompletionBody, frozen=True, kw_only=True):
    """A completion with a part of its prompt named."""

    engine: str | None = None
    flow: str | None = None
    """Which of our flows; where it is missing, the receiver's latest of the same prompt is."""
    begin: int | None = None
    end: int | None = None
    kv_window_begin: int | None = None
    kv_window_end: int | None = None
    kv_addr_info: str | None = None
    kv_append_metadata: str | None = None
    recv_rank: int | None = None
    """This and the next are heard: a grant knows where it belongs."""
    dst_group_offset: int | None = None

    @property
    def first(self) -> int:
        given = self.kv_window_begin if self.begin is None else self.begin
        return given or 0

    @property
    def last(self) -> int | None:
        return self.kv_window_end if self.end is None else self.end


def seal(ticket: Ticket) -> str:
    return base64.urlsafe_b64encode(encode(ticket)).decode()


def ticket_of(call: Call) -> Ticket:
    """
    Raises:
        HttpError: it has none, or one that is not ours.
    """
    given = call.kv_addr_info or call.kv_append_metadata
    if not given:
        raise bad("kv_addr_info is missing: prep_recv gives it", "kv_addr_info")
    try:
        return decode(base64.b64decode(given, altchars=b"-_", validate=True), Ticket)
    except (binascii.Error, ValueError, Undecodable, msgspec.DecodeError):
        raise bad("kv_addr_info is not what prep_recv gave", "kv_addr_info") from None


def position(index: int, length: int, name: str) -> int:
    """An index of the prompt as a number from 0 to ``length``.

    Raises:
        HttpError: it is outside of the prompt.
    """
    at = index if index >= 0 else length + index
    if not 0 <= at <= length:
        raise HttpError(
            400, f"{name} is {index}; the prompt has {length} tokens", "bad_range", name
        )
    return at
