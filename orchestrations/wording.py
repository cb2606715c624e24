"""A path in words, one line a step, as a model checker tells its counterexample."""

from __future__ import annotations

from collections.abc import Iterable

from bus.messages import Directed, EngineLost, Event, Finished, Prepared, Refused, Suspended

from .answers import verb
from .explore import Edge, Failed
from .machine import Instruction, Renew
from .world import Cause


def words(path: Iterable[Edge]) -> tuple[str, ...]:
    """Each step as ``event -> state; commands``."""
    return tuple(_step(edge) for edge in path)


def _step(edge: Edge) -> str:
    if isinstance(edge, Failed):
        return f"{_cause(edge.cause)} -> {edge.message}"
    sent = "; " + ", ".join(map(_command, edge.commands)) if edge.commands else ""
    return f"{_cause(edge.cause)} -> {type(edge.after.state).__name__}{sent}"


def _cause(cause: Cause) -> str:
    sender = f" from {cause.engine}" if cause.engine else ""
    late = ", late or again" if cause.kind == "late" else ""
    return f"{_event(cause.event)}{sender}{late}"


def _event(event: Event) -> str:
    name = type(event).__name__
    match event:
        case Prepared(_, matched):
            return f"{name}(matched={matched})"
        case Finished(reason):
            return f"{name}({reason})"
        case Refused(refused, reason):
            return f"{name}({refused}, {reason})"
        case EngineLost(engine, answered=answered) | Directed(engine, answered):
            so_far = f", {len(answered)} answered" if answered else ""
            return f"{name}({engine}{so_far})"
        case Suspended(_, answered):
            return f"{name}({len(answered)} answered)"
    return name


def _command(command: Instruction) -> str:
    if isinstance(command, Renew):
        return "Renew"
    return f"{verb(command)} to {command.engine}"
