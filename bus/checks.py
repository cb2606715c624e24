"""What may be published, and where: checked before anything reaches the broker.

The broker answers one absurd subject or one byte too many by closing the connection that everybody
in the process shares, so both implementations of the bus ask here first.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .interface import BadSubject, BusError, Headers, PayloadTooLarge

MAX_SUBJECT_LENGTH: Final = 512
"""Subject and reply share one protocol line, which the broker cuts off at 4,096 bytes."""

_NAME: Final = r"[!-)+-\-/-=?-~]+"
"""Printable ASCII but for the dot, the wildcards and the space."""
_CONCRETE: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_PATTERN: Final = re.compile(rf"(?:(?:{_NAME}|\*)\.)*(?:{_NAME}|\*|>)")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_HEADER_FRAME_BYTES: Final = len(b"NATS/1.0\r\n\r\n")
_HEADER_LINE_BYTES: Final = len(b": \r\n")


class BadHeader(BusError):
    """A header that cannot travel as it is; nothing was sent."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(
            f"bad header {name[:80]!r}: {value[:80]!r}; a name is an HTTP token, a value printable "
            "ASCII without space at either end"
        )
        self.name, self.value = name, value


@lru_cache(maxsize=4096)
def check_concrete(subject: str) -> None:
    """A subject that one message can be published to.

    Raises:
        BadSubject: it is empty, too long, has a wildcard, an empty token, or a character other
            than printable ASCII.
    """
    _check_length(subject)
    if not _CONCRETE.fullmatch(subject):
        raise BadSubject(subject, "use printable ASCII between dots, no space and no wildcard")


@lru_cache(maxsize=4096)
def check_pattern(subject: str) -> None:
    """A subject to subscribe to: ``*`` may stand for one token and ``>``, at the end, for the rest.

    Raises:
        BadSubject: as in `check_concrete`, and where a wildcard is only a part of a token.
    """
    _check_length(subject)
    if not _PATTERN.fullmatch(subject):
        raise BadSubject(
            subject, "use printable ASCII between dots, '*' for a whole token, '>' for the last"
        )


def check_queue(queue: str) -> None:
    """The name of a queue group; empty means none.

    Raises:
        BadSubject: it is not one that `check_concrete` takes.
    """
    if queue:
        check_concrete(queue)


def check_pending(max_pending: int) -> None:
    """Raises: ValueError: there is no room for a single message."""
    if max_pending < 1:
        raise ValueError(f"max_pending is {max_pending}; a subscription holds at least 1 message")


def check_size(subject: str, payload: bytes, headers: Headers | None, max_payload: int) -> None:
    """The broker counts the headers, too.

    Raises:
        PayloadTooLarge: payload and headers together have more than ``max_payload`` bytes.
        BadHeader: a header would not arrive as it was given.
    """
    num_bytes = len(payload)
    if headers:
        num_bytes += _header_bytes(headers)
    if num_bytes > max_payload:
        raise PayloadTooLarge(subject, num_bytes, max_payload)


def _header_bytes(headers: Headers) -> int:
    num_bytes = _HEADER_FRAME_BYTES
    for name, value in headers.items():
        plain = value.isascii() and value.isprintable() and value == value.strip()
        if not (plain and _is_header_name(name)):
            raise BadHeader(name, value)
        num_bytes += len(name) + len(value) + _HEADER_LINE_BYTES
    return num_bytes


@lru_cache(maxsize=256)
def _is_header_name(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None


def _check_length(subject: str) -> None:
    if len(subject) > MAX_SUBJECT_LENGTH:
        raise BadSubject(
            subject, f"{len(subject)} characters, at most {MAX_SUBJECT_LENGTH} are allowed"
        )
