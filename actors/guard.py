"""An end to strategies and policies that have none: a limit to the processor time of one call.

A loop without an end in a user's file would hold up every flow of the router. The limit is a signal
of the process's own timer, so it works in the main thread only; elsewhere calls are not limited.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

LIMIT_S: Final = 0.25
"""Of processor time. A transition takes microseconds."""


class TookTooLong(Exception):
    """The strategy was stopped."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"it did not return within {limit_s:g} s of processor time")


class _Stop(BaseException):
    """Not an `Exception`: a strategy that catches those is stopped all the same."""


class Guard:
    """Limits strategies. One for the process: it takes SIGVTALRM."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._is_armed = False
        self._works = threading.current_thread() is threading.main_thread()
        if self._works:
            signal.signal(signal.SIGVTALRM, self._on_time)

    def limited(self, function: Callable[P, R]) -> Callable[P, R]:
        """The same strategy or policy; a call that takes too long raises `TookTooLong`."""

        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            if not self._works or threading.current_thread() is not threading.main_thread():
                return function(*args, **kwargs)
            try:
                self._arm()
                return function(*args, **kwargs)
            except _Stop:
                raise TookTooLong(self._limit_s) from None
            finally:
                self._is_armed = False
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)

        limited.__name__ = getattr(function, "__name__", "strategy")
        return limited

    def _arm(self) -> None:
        self._is_armed = True
        # Again and again, for a strategy that catches everything.
        signal.setitimer(signal.ITIMER_VIRTUAL, self._limit_s, self._limit_s)

    def _on_time(self, number: int, frame: FrameType | None) -> None:
        """A signal that comes when the call is over finds nobody to stop."""
        if self._is_armed:
            raise _Stop
