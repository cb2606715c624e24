"""Every way in which an engine may answer a command: what the explorer plays instead of engines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

from bus.messages import (
    AnyCommand,
    Commit,
    Committed,
    EngineEvent,
    Finished,
    FinishReason,
    Matched,
    Prepared,
    PrepRecv,
    Query,
    Reason,
    Refused,
    Release,
    Released,
    RemoteSend,
    Sent,
    Started,
    StartGenerate,
    Suspend,
    Suspended,
    Usage,
)
from bus.tokens import Tokens

from .machine import Instruction

PAGE_SIZE: Final = 16
"""Tokens per page of the engines that are played here."""

REFUSALS: Final[dict[str, tuple[Reason, ...]]] = {
    "PrepRecv": ("busy", "too_long", "stale_epoch", "internal"),
    "RemoteSend": (
        "busy",
        "transfer_failed",
        "corrupt",
        "incompatible",
        "stale_epoch",
        "internal",
    ),
    "StartGenerate": ("busy", "transfer_failed", "corrupt", "too_long", "stale_epoch", "internal"),
    "Commit": ("no_such_flow", "transfer_failed", "corrupt", "stale_epoch"),
    "Suspend": ("no_such_flow", "out_of_order", "stale_epoch"),
    "Release": ("stale_epoch",),
    "Query": ("bad_range", "stale_epoch"),
}
"""The reasons that a well-formed command of each verb may be refused with."""


LATE: Final[dict[str, EngineEvent]] = {
    "PrepRecv": Prepared(b"a late grant", 0),
    "RemoteSend": Sent(num_bytes=4096, seconds=0.001, lane="memory"),
    "StartGenerate": Finished("stop", Usage()),
    "Commit": Committed(PAGE_SIZE),
    "Suspend": Suspended(PAGE_SIZE),
    "Release": Released(),
    "Query": Matched(0, load=1, free_pages=64),
}
"""An answer to each verb that comes when nobody waits for it."""

VERBS: Final = tuple(LATE)

SO_FAR: Final = Tokens(range(900, 900 + PAGE_SIZE + 2))
"""What an engine that is played here has answered at most: enough to fill a page and begin one."""


def verb(command: Instruction) -> str:
    return type(command).__name__


def resolve(index: int | None, length: int) -> int:
    """Where an index of a range lies: None is the end, a negative one counts from the end.

    Outside of ``[0, length]`` where the index was.
    """
    if index is None:
        return length
    return index + length if index < 0 else index


def grant_of(engine: str) -> bytes:
    """The right to write into this engine's pages, as opaque here as a real one is to a router."""
    return f"grant of {engine}".encode()


def endings(command: AnyCommand, *answers: Tokens) -> tuple[EngineEvent, ...]:
    """All ways in which the command may end, success first; ``answers`` are what may have been
    answered by then."""
    if isinstance(command, Suspend):
        suspended = tuple(Suspended(PAGE_SIZE, so_far) for so_far in answers or (Tokens(),))
        return (*suspended, *refusals(command))
    return (*successes(command), *refusals(command))


def late_answer(name: str, refused: bool) -> EngineEvent:
    """An answer to a command of this verb that nobody waits for."""
    return Refused(name, "internal", "late") if refused else LATE[name]


def refusals(command: AnyCommand) -> Iterator[Refused]:
    name = verb(command)
    if isinstance(command, StartGenerate) and command.sampling.max_tokens == 0:
        return iter((Refused(name, "bad_request", "max_tokens=0"),))
    return (Refused(name, reason, f"{command.engine} says so") for reason in REFUSALS[name])


def successes(command: AnyCommand) -> Iterator[EngineEvent]:
    match command:
        case PrepRecv(engine, prompt, end):
            yield from _prepared(engine, resolve(end, len(prompt)))
        case RemoteSend():
            yield Sent(num_bytes=4096, seconds=0.001, lane="memory")
        case StartGenerate():
            if command.sampling.max_tokens:
                yield from (Finished(reason, Usage()) for reason in get_args(FinishReason))
        case Commit():
            yield Committed(num_tokens=PAGE_SIZE)
        case Suspend():
            yield Suspended(num_tokens=PAGE_SIZE)
        case Release():
            yield Released()
        case Query(prompt=prompt):
            yield from (Matched(n, load=1, free_pages=64) for n in _cached(len(prompt)))


def signs_of_life(command: AnyCommand) -> Iterator[EngineEvent]:
    """What may come, any number of times, before the command ends."""
    if isinstance(command, StartGenerate) and command.sampling.max_tokens:
        yield Started(matched=0)


def _prepared(engine: str, end: int) -> Iterator[EngineEvent]:
    """Where everything is cached there is nothing to write, and so nothing is granted."""
    for matched in _cached(end):
        yield Prepared(b"" if matched == end else grant_of(engine), matched)


def _cached(end: int) -> list[int]:
    """Nothing, one page, about half, all that fills pages, all."""
    half, full = (n // PAGE_SIZE * PAGE_SIZE for n in (end // 2, end))
    return sorted({n for n in (0, PAGE_SIZE, half, full, end) if n <= end})
