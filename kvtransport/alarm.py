"""When the transport's thread sleeps, what wakes it, and when it stays awake instead.

Waking up takes 20 to 100 microseconds, more than everything else about a short message. So a thread
that expects one looks out for it for a moment before it sleeps: after it has sent something, and
when a peer said that it is about to.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """The part of a worker that this uses."""

    @property
    def event_fd(self) -> int: ...

    def progress(self) -> bool: ...

    def arm(self) -> bool: ...


class Alarm:
    """For the thread that owns ``worker``; `ring` is for all others."""

    def __init__(
        self, worker: Progress, clock: Callable[[], float], is_wanted: Callable[[], bool]
    ) -> None:
        """``is_wanted`` says whether there is something to do already; rung for when it changes."""
        self._worker, self._clock, self._is_wanted = worker, clock, is_wanted
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        """What `ring` writes to while the thread sleeps."""
        self._poller = select.poll()
        for descriptor in (self.bell, worker.event_fd):
            self._poller.register(descriptor, select.POLLIN)
        self._asleep = self._closed = False
        self._awake_until = 0.0

    def ring(self) -> None:
        """From any thread, after `is_wanted` became true."""
        if self._asleep and not self._closed:
            os.eventfd_write(self.bell, 1)

    def expect(self, seconds: float) -> None:
        """Something is likely to come within so many seconds: stay awake for it."""
        self._awake_until = max(self._awake_until, self._clock() + seconds)

    def sleep(self, timeout_s: float | None) -> None:
        """Until the worker, a ring or the timeout needs us: at once where there is work already."""
        if self._looked_out() or not self._worker.arm():
            return
        self._asleep = True
        if not self._is_wanted():
            ready = self._poller.poll(None if timeout_s is None else timeout_s * 1000)
            if any(descriptor == self.bell for descriptor, _ in ready):
                os.eventfd_read(self.bell)
        self._asleep = False

    def close(self) -> None:
        self._closed = True
        os.close(self.bell)

    def _looked_out(self) -> bool:
        """Whether what was expected, or anything else, came before it was too late to expect it."""
        while self._clock() < self._awake_until:
            if self._worker.progress() or self._is_wanted():
                return True
            os.sched_yield()  # whoever has something to do on this processor goes first
        return False
