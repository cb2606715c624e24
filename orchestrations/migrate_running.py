"""Move a request that is decoding to another engine, its user none the wiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from bus.messages import (
    Directed,
    EngineLost,
    Event,
    Finished,
    Prepared,
    PrepRecv,
    Refused,
    Release,
    RemoteSend,
    Sent,
    Suspend,
    Suspended,
)
from bus.tokens import Tokens

from .disaggregated import disaggregated
from .machine import Done, Generating, Instruction, Job, Renew, State, interrupted, prepare
from .resilient import again, resilient


class Reserving(Struct, frozen=True, tag=True):
    """``prefill`` goes on answering, and ``decode`` is reserving pages for what there is of it."""

    job: Job


class Copying(Struct, frozen=True, tag=True):
    """``prefill`` goes on answering while its pages are copied to ``decode``."""

    job: Job


class Stopping(Struct, frozen=True, tag=True):
    """It is copied, and ``prefill`` is making its last token."""

    job: Job


class Staying(Struct, frozen=True, tag=True):
    """It could not be copied: it is answered where it was, and not asked to move again."""

    job: Job


Moving: TypeAlias = State | Reserving | Copying | Stopping | Staying


def migrate_running(state: Moving, event: Event) -> tuple[Moving, Sequence[Instruction]]:
    """Resilient, and when an operator directs it: copy while decoding goes on, stop, copy the tail,
    go on at the other engine."""
    match state, event:
        case Generating(job), Directed(to, answered) if to != job.decode and not job.prefill:
            move = _move(job, job.decode, to, answered)
            return Reserving(move), [PrepRecv(to, move.prompt, end=move.split)]
        case Reserving(move), Prepared(grant, matched) if matched < move.split:
            send = RemoteSend(move.prefill, move.prompt, grant, matched, move.split)
            return Copying(move), [send]
        case (Reserving(move), Prepared()) | (Copying(move), Sent()):
            return Stopping(move), [Suspend(move.prefill)]
        case Stopping(move), Suspended(_, answered):
            rest, commands = prepare(_move(move, move.prefill, move.decode, answered))
            return rest, [*move.release(), Renew(), *commands]
    match state:
        case Reserving() | Copying() | Stopping():
            return _disturbed(state, state.job, event)
        case Staying():
            return _stayed(state, event)
    return resilient(state, event)


def _disturbed(
    state: Reserving | Copying | Stopping, move: Job, event: Event
) -> tuple[Moving, Sequence[Instruction]]:
    """Nothing that goes wrong with a move is the user's concern, as long as one engine is left."""
    match state, event:
        case _, Finished():
            return Done("finished"), [Release(move.decode)]
        case (
            (Reserving(), Refused("PrepRecv"))
            | (Copying(), Refused("RemoteSend"))
            | (Stopping(), Refused("Suspend"))
        ):
            return Staying(Job(move.request, move.prefill)), [Release(move.decode)]
        case _, Refused("RemoteSend"):  # late: what it sent had arrived
            return state, []
        case ((Reserving() | Copying()), EngineLost(move.decode)):
            return Staying(Job(move.request, move.prefill)), []
        case _, EngineLost(lost) if lost in move.engines:
            return again(disaggregated, move, event)
    return interrupted(state, move, event)


def _stayed(state: Staying, event: Event) -> tuple[Moving, Sequence[Instruction]]:
    """As any request that is being answered, but that it was told once in this attempt to send and
    to stop, and cannot be told again."""
    if isinstance(event, Directed):
        return state, []
    after, commands = resilient(Generating(state.job), event)
    return state if after == Generating(state.job) else after, commands


def _move(job: Job, here: str, there: str, answered: Tokens) -> Job:
    request = job.request.going_on(answered)
    return Job(request, decode=there, prefill=here, split=len(request.prompt) - 1)
