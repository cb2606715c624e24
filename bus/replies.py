"""Which request a reply belongs to: each has a reply subject of its own, under one prefix."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final

from .interface import Message

_NAME_BYTES: Final = 8


class Replies:
    """For one event loop. Names are random, so that who answers one request cannot answer another.

    Everybody else's messages that come under the prefix, late replies and second ones are ignored.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._awaited: dict[bytes, asyncio.Future[Message]] = {}

    @property
    def pattern(self) -> str:
        """What to subscribe to before anything is expected."""
        return f"{self._prefix}.*"

    def expect(self) -> tuple[str, asyncio.Future[Message]]:
        """A new reply subject and the first message that comes there."""
        subject = f"{self._prefix}.{secrets.token_hex(_NAME_BYTES)}"
        reply = self._awaited[subject.encode()] = asyncio.get_running_loop().create_future()
        return subject, reply

    def arrived(self, subject: bytes, message: Message) -> None:
        reply = self._awaited.pop(subject, None)
        if reply is not None and not reply.done():
            reply.set_result(message)

    def forget(self, subject: str) -> None:
        """Nobody waits for it any more. Again does nothing."""
        self._awaited.pop(subject.encode(), None)
