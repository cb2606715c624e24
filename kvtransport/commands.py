"""What a transport's thread was asked to do, by whomever, in order."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from .transport import TransportClosed

_Answer = TypeVar("_Answer")
log = logging.getLogger(__name__)


class Commands:
    """Filled from any thread, run by one. Once closed, it takes nothing more.

    ``wake`` is called after each addition and must be cheap. ``failed`` counts calls that raised:
    each was logged, since a fault in one must not take the thread, and everybody's transfers,
    with it.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._open = True
        self.failed = 0

    def add(self, command: Callable[[], None]) -> None:
        """Raises `TransportClosed` where it will not be run."""
        if not self.offer(command):
            raise TransportClosed("the KV transport was closed")

    def offer(self, command: Callable[[], None]) -> bool:
        """Whether it was taken."""
        with self._lock:
            if not self._open:
                return False
            self._waiting.append(command)
        self._wake()
        return True

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._waiting)

    def run(self, at_most: int | None = None) -> None:
        """On the thread: what waits now, or the first ``at_most`` of it. What is added meanwhile
        waits for the next time: somebody who keeps adding must not keep the thread from the rest.
        """
        waiting = len(self._waiting)
        for _ in range(waiting if at_most is None else min(waiting, at_most)):
            try:
                command = self._waiting.popleft()
            except IndexError:  # another thread has discarded the rest meanwhile
                return
            self.guard(command)

    def ask(self, turn: Callable[[], float | None]) -> float | None:
        """The turn's answer, None where it raised."""
        return self.guard(turn)

    def close(self) -> None:
        """On the thread: run what was added before, and refuse the rest."""
        with self._lock:
            self._open = False
        while self._waiting:
            self.run()

    def discard(self) -> None:
        """Run nothing more."""
        with self._lock:
            self._open = False
            self._waiting.clear()

    def guard(self, call: Callable[[], _Answer]) -> _Answer | None:
        try:
            return call()
        except Exception:
            self.failed += 1
            log.exception("a call on the KV transport's thread failed")
            return None
