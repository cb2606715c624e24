"""Which model a fleet serves, for whoever does not say which he wants."""

from __future__ import annotations

import asyncio
import contextlib

from bus.codec import Undecodable, decode
from bus.interface import Bus, Message
from bus.messages import Beat
from bus.subjects import Subjects

from .client_errors import UnclearModel
from .roster import LOST_AFTER_S


async def only_model(bus: Bus, subjects: Subjects) -> str:
    """The model that the fleet serves, from the heartbeats that are heard first.

    Raises:
        UnclearModel: there is none, or more than one.
    """
    seen: set[str] = set()
    heard = asyncio.Event()

    async def listen(message: Message) -> None:
        with contextlib.suppress(Undecodable):
            seen.add(decode(message.payload, Beat).model)
            heard.set()

    subscription = await bus.subscribe(subjects.every_beat, listen)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOST_AFTER_S):
                await heard.wait()
    finally:
        await subscription.unsubscribe()
    if len(seen) != 1:
        raise UnclearModel(sorted(seen))
    return seen.pop()
