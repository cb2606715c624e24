"""Calls one subscription's handler: one message at a time, whatever happens inside it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from .interface import Handler, Message

logger = logging.getLogger("microserve.bus")

YIELD_EVERY: Final = 64
"""Calls in a row that never wait for anything, after which others in the event loop get a turn."""


class Handling:
    """One handler, with the failures it had and the messages that were lost for it.

    Guarantees:
        * An exception in the handler is logged and counted, and goes no further. So is a
          ``CancelledError`` that comes from inside, such as from a cancelled task it waited for.
        * Once `stop` was called no call starts; `idle` waits for the one in progress.
    """

    def __init__(self, subject: str, handler: Handler) -> None:
        self.subject = subject
        self.stopped = False
        self.failed = 0
        self.dropped = 0
        self._handler = handler
        self._num_calls = 0
        self._caller: asyncio.Task[Any] | None = None
        self._finished: asyncio.Event | None = None

    async def call(self, message: Message) -> None:
        """Not to be called again before it returned."""
        await self.run(message, asyncio.current_task())

    async def run(self, message: Message, caller: asyncio.Task[Any] | None) -> None:
        """`call`, for whoever knows already which task it is in."""
        if self.stopped:
            return
        self._caller = caller
        try:
            await self._handler(message)
        except asyncio.CancelledError:
            if caller is not None and caller.cancelling():
                raise
            self._record_failure()
        except Exception:
            self._record_failure()
        finally:
            self._caller = None
            if self._finished is not None:
                self._finished.set()
        self._num_calls += 1
        if not self._num_calls % YIELD_EVERY:
            await asyncio.sleep(0)

    def stop(self) -> None:
        self.stopped = True

    def inside(self) -> bool:
        """Whether it is the handler itself that asks."""
        return self._caller is not None and self._caller is asyncio.current_task()

    async def idle(self) -> None:
        """Returns when no call is in progress; at once inside the handler itself."""
        if self._caller is None or self.inside():
            return
        if self._finished is None:
            self._finished = asyncio.Event()
        self._finished.clear()
        await self._finished.wait()

    def drop(self) -> None:
        """Record a lost message. Logs at 1, 2, 4, 8, ... losses: a flood must not become two."""
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:
            logger.warning(
                "the handler of %r is too slow: %d messages dropped", self.subject, self.dropped
            )

    def _record_failure(self) -> None:
        self.failed += 1
        logger.exception("the handler of %r failed; the subscription goes on", self.subject)
