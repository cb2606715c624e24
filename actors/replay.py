"""Plays a recorded flow again, and finds where another strategy would have gone another way."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from bus.fleet import NoEngine
from bus.messages import Event, Release
from bus.tokens import Tokens
from orchestrations.machine import Done, Idle, Instruction, State, Strategy

from .recording import RecordedStep, Recording


class Replayed(Struct, frozen=True):
    """One event of the recording, what was done with it then, and what would be done now."""

    recorded: RecordedStep
    state: str
    commands: tuple[Instruction, ...]
    error: str = ""
    """What the strategy raised."""

    @property
    def parts(self) -> bool:
        """It goes another way here."""
        then = self.recorded
        return bool(self.error) or (then.state, then.commands) != (self.state, self.commands)


class Replay(Struct, frozen=True):
    """The same events through a strategy. After the first that parts, what follows is what would
    have been if the engines had answered as they did, which they need not have."""

    recording: Recording
    steps: tuple[Replayed, ...]

    @property
    def parting(self) -> int | None:
        """The index of the first step that parts; None where all are the same."""
        return next((i for i, step in enumerate(self.steps) if step.parts), None)


def replay(recording: Recording, strategy: Strategy) -> Replay:
    """Never raises for what a strategy does: an error is a step of its own, and the last one."""
    state: State = Idle()
    steps: list[Replayed] = []
    for recorded in recording.steps:
        try:
            state, commands = strategy(state, recorded.event)
            steps.append(Replayed(recorded, type(state).__name__, tuple(commands)))
        except NoEngine as error:  # the router makes a refusal of it, and frees what there is
            freed = tuple(c for c in recorded.commands if isinstance(c, Release))
            steps.append(Replayed(recorded, "Done", freed))
            state = Done("refused", str(error))
        except Exception as error:  # a user's file
            steps.append(Replayed(recorded, "", (), repr(error)))
            break
    return Replay(recording, tuple(steps))


# --- in words -----------------------------------------------------------------------------------


def lines(replayed: Replay, name: str) -> list[str]:
    """For the terminal: one line a step, two where the strategies part."""
    recording, parting = replayed.recording, replayed.parting
    began = f"{recording.orchestration}@{recording.version or 'installed'}"
    told = [f"flow {recording.flow}: {began}, {recording.outcome or 'unknown end'}"]
    for number, step in enumerate(replayed.steps):
        then = step.recorded
        event = f"{then.at_s * 1e3:9.1f} ms  {_event(then.event)}"
        if not step.parts:
            told.append(f"{event} -> {_told(then.state, then.commands)}")
            continue
        mark = "parts here" if number == parting else "apart"
        now = step.error or _told(step.state, step.commands)
        told += [f"{event}  ({mark})", f"    then  -> {_told(then.state, then.commands)}"]
        told.append(f"    {name}  -> {now}")
    if not recording.is_whole:
        told.append("(the flow went on: only its beginning was recorded)")
    if parting is None:
        told.append(f"{name} goes the same way: {len(replayed.steps)} events")
    else:
        told.append(f"{name} parts at event {parting + 1} of {len(recording.steps)}")
    return told


def _told(state: str, commands: Sequence[Instruction]) -> str:
    return "; ".join([state, *map(_short, commands)])


def _event(event: Event) -> str:
    return _short(event)


def _short(value: Struct) -> str:
    """A message in a few words: long fields by their size."""
    shown = [
        f"{name}={_value(getattr(value, name))}"
        for name in value.__struct_fields__
        if name not in ("sampling", "reply", "request", "fleet")
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def _value(value: object) -> str:
    if isinstance(value, Tokens):
        return f"<{len(value)} tokens>"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return repr(value) if not isinstance(value, Struct) else _short(value)
