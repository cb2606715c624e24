"""A message's headers as the block of bytes that travels before its payload, and back."""

from __future__ import annotations

from typing import Final

from .interface import Headers

_VERSION: Final = b"NATS/1.0"
_END: Final = b"\r\n\r\n"


def header_block(headers: Headers) -> bytes:
    """Of headers that `checks.check_size` has passed."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def read_headers(block: bytes) -> dict[str, str] | None:
    """The headers of a regular block; None where it is not one.

    A status of the broker, as in ``NATS/1.0 503 No Responders``, is the header ``Status``, and its
    words are ``Description``. Of two headers with one name the last one counts.
    """
    if not (block.startswith(_VERSION) and block.endswith(_END)):
        return None
    try:
        status, *lines = block[len(_VERSION) : -len(_END)].decode().split("\r\n")
    except UnicodeDecodeError:
        return None
    headers = _read_status(status)
    for line in lines:
        name, colon, value = line.partition(":")
        if headers is None or not colon or name.split() != [name]:
            return None
        headers[name] = value.strip()
    return headers


def _read_status(status: str) -> dict[str, str] | None:
    if not status:
        return {}
    code, _, description = status.strip().partition(" ")
    if not code.isdecimal():
        return None
    return {"Status": code, "Description": description} if description else {"Status": code}
