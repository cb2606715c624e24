"""What happened to one flow, event by event: enough to play it again."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from bus.messages import Event
from orchestrations.machine import Instruction

MAX_STEPS: Final = 512
"""Of one flow; what comes after is not recorded, and the recording says so."""


class RecordedStep(Struct, frozen=True):
    """One transition: what the strategy was told, and what it did."""

    at_s: float
    """Since the flow began."""
    event: Event
    state: str
    """The name of the state that it came to."""
    commands: tuple[Instruction, ...]


class Recording(Struct, frozen=True):
    flow: str
    model: str
    orchestration: str
    version: int
    began_s: float
    outcome: str
    steps: tuple[RecordedStep, ...]
    is_whole: bool = True
