"""How fast bytes may go out: as fast as they can, or no faster than our share of a link."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

_BURST_S: Final = 0.005
"""What a wait that lasted too long may be made up for: a thread wakes up late."""


class Pace(Protocol):
    """Asked before bytes go out or are said to have landed, told afterwards."""

    def wait_s(self) -> float:
        """Seconds until more may go out; 0 where it may now."""
        ...

    def spend(self, num_bytes: int) -> None: ...


class Unlimited:
    def wait_s(self) -> float:
        return 0.0

    def spend(self, num_bytes: int) -> None:
        pass


class Limited:
    """A link of so many bytes per second: what goes out occupies it until its time has passed."""

    def __init__(self, bytes_per_s: float, clock: Callable[[], float]) -> None:
        if bytes_per_s <= 0:
            raise ValueError(f"a pace of {bytes_per_s:g} bytes/s; it must be more than none")
        self._bytes_per_s, self._clock = bytes_per_s, clock
        self._free_at = clock()

    def wait_s(self) -> float:
        return max(self._free_at - self._clock(), 0.0)

    def spend(self, num_bytes: int) -> None:
        begin = max(self._free_at, self._clock() - _BURST_S)
        self._free_at = begin + num_bytes / self._bytes_per_s
