"""How fast bytes may go out: as fast as they can, or no faster than our share of a link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

_BURST_S: Final = 0.005
"""What a wait that lasted too long may be made up for: a thread wakes up late."""
_SLICE_S: Final = 0.125
"""What goes out at once takes the link no longer than this: a transfer over a slow one is seen to
make progress long before its lease runs out."""


class Pace(Protocol):
    """Asked before bytes go out or are said to have landed, told afterwards."""

    def wait_s(self) -> float:
        """Seconds until more may go out; 0 where it may now."""
        ...

    def at_once(self, num_bytes: int) -> int:
        """How many of so many bytes may go out together: one at the least."""
        ...

    def spend(self, num_bytes: int) -> None: ...


class Unlimited:
    def wait_s(self) -> float:
        return 0.0

    def at_once(self, num_bytes: int) -> int:
        return num_bytes

    def spend(self, num_bytes: int) -> None:
        pass


class Limited:
    """A link of so many bytes per second: what goes out occupies it until its time has passed."""

    def __init__(self, bytes_per_s: float, clock: Callable[[], float]) -> None:
        if not bytes_per_s > 0:
            raise ValueError(f"a pace of {bytes_per_s:g} bytes/s; it must be more than none")
        self._bytes_per_s, self._clock = bytes_per_s, clock
        self._free_at = clock()

    def wait_s(self) -> float:
        return max(self._free_at - self._clock(), 0.0)

    def at_once(self, num_bytes: int) -> int:
        return max(int(min(self._bytes_per_s * _SLICE_S, num_bytes)), 1)

    def spend(self, num_bytes: int) -> None:
        begin = max(self._free_at, self._clock() - _BURST_S)
        self._free_at = begin + num_bytes / self._bytes_per_s
