"""What an engine has to say after an order, a transfer event or a step."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bus.messages import EngineEvent, Mailbox
from bus.public import Spoken


class Phase(Struct, frozen=True):
    """One stretch of work on a command, for its trace: ``queue``, ``prefill``, ``decode``,
    ``transfer``, ``wait`` (for KV to arrive). Times are in seconds, as in ``now``."""

    name: str
    begin_s: float
    end_s: float
    attributes: dict[str, str | int | float | bool] = {}


class Told(Struct, frozen=True):
    """A command's event, for the router that gave it."""

    flow: str
    attempt: int
    verb: str
    """The command that this answers: `Started` and `Finished` both answer ``StartGenerate``."""
    event: EngineEvent
    phases: tuple[Phase, ...] = ()


class Output(Struct, frozen=True, gc=False):
    """Something for the user who asked; also for the router that follows the flow."""

    flow: str
    attempt: int
    reply: Mailbox
    message: Spoken


Outcome: TypeAlias = Told | Output
