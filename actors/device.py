"""The one thread on which an engine computes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


class DeviceThread(Generic[T]):
    """Runs one call at a time off the event loop that made it.

    An executor would do, but its futures and their locks cost every step 50 microseconds, which is
    much where a step has one token for each of a few streams.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], T], asyncio.Future[T]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call``, or what it raised. A call that was begun is finished, even where
        nobody waits for it any more."""
        done: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((call, done))
        return await done

    def close(self) -> None:
        """Returns when the thread has ended, after the call in progress. Again does nothing."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, done = item
            try:
                self._tell(_succeed, done, call())
            except BaseException as error:  # whoever waits for it deals with it
                self._tell(_fail, done, error)

    def _tell(
        self, how: Callable[[asyncio.Future[T], V], None], done: asyncio.Future[T], what: V
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(how, done, what)


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[T], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
