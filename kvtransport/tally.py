"""Whose transfers are open at a courier, and how all others ended."""

from __future__ import annotations

import threading

from msgspec import Struct

from bus.transfers import Arrived, Delivered, Fenced, SendFailed, TransferEvent

from .effects import Name
from .transport import TransportStatistics


class CourierStatistics(Struct, frozen=True):
    granted: int
    arrived: int
    fenced: int
    opened: int
    delivered: int
    send_failed: int
    refused: int
    """Grants that `Courier.open` did not take."""
    delivered_bytes: int
    bad_messages: int
    """Messages of peers that could not be read; each was ignored."""
    failed: int
    """Effects of the protocol that raised; each was logged."""
    transport: TransportStatistics


class Tally:
    """For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: set[Name] = set()
        self._counts = dict.fromkeys(CourierStatistics.__struct_fields__[:-3], 0)

    def claim(self, name: Name) -> None:
        """Raises ValueError where it is in use."""
        with self._lock:
            if name in self._names:
                raise ValueError(f"attempt {name[1]} of flow {name[0]!r} has a transfer here")
            self._names.add(name)

    def release(self, name: Name) -> None:
        with self._lock:
            self._names.discard(name)

    def count(self, what: str) -> None:
        """One more ``granted``, ``opened`` or ``refused``."""
        with self._lock:
            self._counts[what] += 1

    def ended(self, event: TransferEvent) -> None:
        """Count how a transfer ended; its name is free again."""
        with self._lock:
            self._names.discard((event.flow, event.attempt))
            match event:
                case Arrived():
                    self._counts["arrived"] += 1
                case Fenced():
                    self._counts["fenced"] += 1
                case Delivered(num_bytes=num_bytes):
                    self._counts["delivered"] += 1
                    self._counts["delivered_bytes"] += num_bytes
                case SendFailed():
                    self._counts["send_failed"] += 1

    def statistics(
        self, bad_messages: int, failed: int, transport: TransportStatistics
    ) -> CourierStatistics:
        with self._lock:
            return CourierStatistics(
                **self._counts, bad_messages=bad_messages, failed=failed, transport=transport
            )
