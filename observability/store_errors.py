"""What can be wrong with the local store of traces, or with what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from .sink import TracingError

BUSY_S: Final = 1.0
"""How long one process waits for another to finish its batch."""
SHOWN: Final = 5


class StoreError(TracingError):
    """The family of the local store's errors."""


class UnreadableStore(StoreError):
    """The file is not one of ours, or may not be read or written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"cannot use the trace store {path}: {why}; move it away or name another")
        self.path, self.why = path, why


class BusyStore(StoreError):
    """Other processes kept the file to themselves for longer than we wait."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the trace store {path} was busy for more than {BUSY_S:g} s; nothing was done, "
            "trying again is safe"
        )
        self.path = path


class UnknownFlow(StoreError, LookupError):
    """No stored flow or trace has an id that begins so."""

    def __init__(self, given: str, path: Path) -> None:
        super().__init__(
            f"no flow begins with {given[:64]!r} in {path}: it may not have finished yet, or be "
            "so old that it was dropped"
        )
        self.given = given


class AmbiguousFlow(StoreError, LookupError):
    """Several flows begin so; more digits would tell them apart."""

    def __init__(self, given: str, candidates: Sequence[str]) -> None:
        shown = ", ".join(candidates[:SHOWN]) + (", ..." if len(candidates) > SHOWN else "")
        super().__init__(f"several flows begin with {given!r}, give more digits: {shown}")
        self.given, self.candidates = given, tuple(candidates)
