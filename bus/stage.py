"""Where in its lifetime a bus is."""

from __future__ import annotations

from enum import Enum

from .interface import Disconnected


class Stage(Enum):
    """The value completes the sentence "this bus ..."."""

    NEW = "was not entered yet"
    CONNECTING = "is connecting"
    OPEN = "is open"
    CLOSING = "is closing"
    CLOSED = "is closed"

    def require_open(self) -> None:
        """Handlers may still publish while their bus is closing.

        Raises:
            Disconnected: before the bus was entered, and after it was left.
        """
        if self not in (Stage.OPEN, Stage.CLOSING):
            raise Disconnected(f"this bus {self.value}")
