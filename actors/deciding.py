"""Why a strategy went where it did, as its trace tells it: what the event said, among whom it could
choose, with their scores, and whom it chose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bus.fleet import Engine, Fleet
from bus.messages import (
    AnyCommand,
    Command,
    Directed,
    EngineLost,
    Event,
    Finished,
    Prepared,
    Refused,
    Sent,
    Submitted,
)
from observability import names
from observability.spans import Attribute
from orchestrations.machine import Instruction

MAX_CANDIDATES: Final = 16
"""Of larger fleets only the engines that were chosen are told, and how many there were."""


def reasons(event: Event, commands: Iterable[Instruction]) -> dict[str, Attribute]:
    """Attributes of the transition that ``event`` caused."""
    match event:
        case Submitted(request, fleet):
            return _choice(fleet, len(request.prompt), commands)
        case EngineLost(engine, fleet):
            return {names.ENGINE: engine, **_choice(fleet, 0, commands)}
        case Directed(engine):
            return {names.ENGINE: engine, **_chosen(commands)}
        case Refused(verb, reason, message):
            return {"microserve.refusal": f"{verb}: {reason}: {message}"}
        case Prepared(matched=matched):
            return {"microserve.matched_tokens": matched}
        case Sent(num_bytes=num_bytes, seconds=seconds, lane=lane):
            return {names.KV_BYTES: num_bytes, names.KV_SECONDS: seconds, names.KV_LANE: lane}
        case Finished(reason):
            return {"microserve.reason": reason}
    return {}


def _choice(fleet: Fleet, num_tokens: int, commands: Iterable[Instruction]) -> dict[str, Attribute]:
    chosen = _chosen(commands)
    told = fleet.engines
    if len(told) > MAX_CANDIDATES:
        told = tuple(e for e in told if e.name in chosen.get(names.CHOSEN, ()))  # type: ignore[operator]
    return {
        names.CANDIDATES: tuple(engine.name for engine in told),
        names.SCORES: tuple(_scored(engine, num_tokens) for engine in told),
        "microserve.fleet": len(fleet.engines),
        **chosen,
    }


def _scored(engine: Engine, num_tokens: int) -> str:
    """The score is what strategies compare: seconds until it would have the whole prompt."""
    wait = "no credit" if engine.credits <= 0 else f"{engine.wait_s(num_tokens):.3f} s"
    return (
        f"{engine.name} ({engine.role}): {wait}, load {engine.load}, "
        f"cached {engine.cached}, free {engine.free_pages} pages"
    )


def _chosen(commands: Iterable[Instruction]) -> dict[str, Attribute]:
    engines = tuple(dict.fromkeys(_engines(commands)))
    return {names.CHOSEN: engines} if engines else {}


def _engines(commands: Iterable[Instruction]) -> Iterator[str]:
    command: AnyCommand | Instruction
    for command in commands:
        if isinstance(command, Command):
            yield command.engine
