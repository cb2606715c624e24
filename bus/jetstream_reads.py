"""What a bucket's stream holds, many messages to one question."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

from .buckets import Entry, StoreFailed
from .codec import encode_json
from .interface import Bus, Message, NoResponders

PATIENCE_S: Final = 5.0
BATCH: Final = 256
NO_RESPONDERS, NOT_FOUND, END_OF_BATCH = "503", "404", "204"


class Stored:
    """Reads one bucket. Each call may raise StoreFailed, NoResponders, or what the bus raises."""

    def __init__(self, bus: Bus, bucket: str) -> None:
        self._bus, self.bucket = bus, bucket
        self.prefix = f"$KV.{bucket}."

    async def newest(self, pattern: str) -> list[Entry]:
        """The newest entry of each key that matches, deletions included, by revision."""
        found = await self._batch({"multi_last": [self.prefix + pattern]})
        return sorted(found, key=lambda entry: entry.revision)

    async def since(self, revision: int, pattern: str) -> list[Entry]:
        """All entries after ``revision`` that are kept, in order."""
        found: list[Entry] = []
        while True:
            question = {"seq": revision + 1, "next_by_subj": self.prefix + pattern, "batch": BATCH}
            some = await self._batch(question)
            found += some
            if len(some) < BATCH:
                return found
            revision = some[-1].revision

    async def _batch(self, question: dict[str, Any]) -> list[Entry]:
        answers: asyncio.Queue[Message] = asyncio.Queue()
        inbox = self._bus.inbox()
        subscription = await self._bus.subscribe(inbox, answers.put)
        try:
            subject = f"$JS.API.DIRECT.GET.KV_{self.bucket}"
            await self._bus.publish(subject, encode_json(question), reply=inbox)
            async with asyncio.timeout(PATIENCE_S):
                return await self._entries(answers, subject)
        except TimeoutError:
            raise StoreFailed(f"bucket {self.bucket!r}: no answer in {PATIENCE_S:g} s") from None
        finally:
            await subscription.unsubscribe()

    async def _entries(self, answers: asyncio.Queue[Message], subject: str) -> list[Entry]:
        found: list[Entry] = []
        while True:
            message = await answers.get()
            status = message.headers.get("Status")
            if status in (END_OF_BATCH, NOT_FOUND):
                return found
            if status == NO_RESPONDERS:
                raise NoResponders(subject)
            if status or "Nats-Sequence" not in message.headers:
                words = message.headers.get("Description") or status or "not an entry"
                raise StoreFailed(f"bucket {self.bucket!r}: {words}")
            found.append(self._entry(message))

    def _entry(self, message: Message) -> Entry:
        headers = message.headers
        deleted = headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
        return Entry(
            headers["Nats-Subject"].removeprefix(self.prefix),
            message.payload,
            int(headers["Nats-Sequence"]),
            datetime.fromisoformat(_microseconds(headers["Nats-Time-Stamp"])).timestamp(),
            deleted,
        )


def _microseconds(stamp: str) -> str:
    """``2026-01-01T00:00:00.123456789Z`` as Python reads it."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{(fraction + '000000')[:6]}+00:00"
