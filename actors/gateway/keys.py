"""API keys: who may use the gateway."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

SCHEME = "bearer"


class Keys:
    """None given lets everybody in. Only digests are kept, so that what is compared has one length,
    and comparing takes as long for a near miss as for any other."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admits(self, authorization: str) -> bool:
        """``authorization`` is the header of this name, empty where there is none."""
        if not self._digests:
            return True
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != SCHEME:
            return False
        digest = _digest(given.strip())
        # Every key is compared, whichever matches: no clock tells which one did.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def read_keys(text: str) -> list[str]:
    """One a line; empty lines and those that begin with ``#`` are left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _digest(key: str) -> bytes:
    """Of a header's bytes that are no UTF-8, too: aiohttp hands them on as surrogates."""
    return sha256(key.encode(errors="surrogateescape")).digest()
