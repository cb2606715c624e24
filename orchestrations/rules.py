"""What must never happen on the way: the rules that one edge of a walk can break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from msgspec import Struct

from bus.messages import (
    AnyCommand,
    Cancelled,
    PrepRecv,
    Query,
    Release,
    RemoteSend,
    Request,
    StartGenerate,
    Superseded,
    TimedOut,
)
from bus.tokens import Tokens

from .answers import grant_of, resolve, verb
from .explore import Edge, Failed, Moved
from .ledger import Ledger
from .machine import Renew

Problem: TypeAlias = Literal[
    "unhandled",
    "malformed",
    "impure",
    "leak",
    "stuck",
    "ignored",
    "dead_engine",
    "starts_twice",
    "repeats",
    "wrong_answer",
    "meddles",
    "bad_command",
    "not_bytes",
    "endless",
    "too_many_worlds",
    "serves_nobody",
    "names_nobody",
    "stalls",
    "greedy",
    "reaches_out",
    "no_verdict",
]


class Fault(Struct, frozen=True):
    """A broken rule, and what broke it."""

    problem: Problem
    message: str


def faults(edge: Edge, asked: Request) -> Iterator[Fault]:
    """Every rule that this edge breaks, on a path that began with ``asked``."""
    if isinstance(edge, Failed):
        yield Fault(
            edge.why, f"{type(edge.before.state).__name__} does not take it: {edge.message}"
        )
        return
    yield from _leak(edge)
    yield from _stuck(edge)
    yield from _ignored(edge)
    if edge.commands:
        yield from _commands(edge)
        yield from _wrong_answers(edge, asked)


def _leak(edge: Moved) -> Iterator[Fault]:
    """Done, an engine holds pages, and nobody has asked for them back."""
    held = edge.after.ledger.holds
    if edge.after.is_done and held and not (edge.before.is_done and edge.before.ledger.holds):
        names = ", ".join(map(str, sorted(held)))
        yield Fault("leak", f"done, and pages are still held by {names} with no Release on its way")


def _stuck(edge: Moved) -> Iterator[Fault]:
    """Nobody owes anything, so that nothing but a timeout can ever happen."""
    if not edge.after.is_done and not edge.after.owed:
        name = type(edge.after.state).__name__
        yield Fault("stuck", f"{name} waits, and no engine owes an answer")


def _ignored(edge: Moved) -> Iterator[Fault]:
    """Whoever gave up is not heard; a flow that ends already need not end again."""
    ending = edge.before.is_done or edge.before.owes("Release")
    unchanged = edge.after.state == edge.before.state and not edge.commands
    match edge.cause.event:
        case Cancelled() if unchanged and not ending:
            yield Fault("ignored", "the user has cancelled, and the flow goes on as before")
        case TimedOut() if unchanged and not edge.before.is_done:
            yield Fault("ignored", "the time has run out, and the flow goes on as before")
        case Superseded() if not edge.after.is_done:
            yield Fault("ignored", "another router has the flow, and ours goes on with it")
        case Superseded() if edge.commands:
            sent = ", ".join(map(verb, edge.commands))
            yield Fault("meddles", f"another router has the flow, and is disturbed by {sent}")


def _commands(edge: Moved) -> Iterator[Fault]:
    ledger = edge.before.heard(edge.cause).ledger
    for command in edge.commands:
        if isinstance(command, Renew):
            ledger = ledger.renewed()
            continue
        if command.engine not in edge.after.alive:
            yield Fault("dead_engine", f"{verb(command)} goes to {command.engine}, which is dead")
        if isinstance(command, StartGenerate) and ledger.generators:
            first = ", ".join(sorted(ledger.generators))
            message = f"{command.engine} is told to generate, and so was {first}"
            yield Fault("starts_twice", message)
        elif not isinstance(command, Query | Release) and ledger.was_told(command):
            yield Fault(
                "repeats", f"{command.engine} takes a second {verb(command)} for a duplicate"
            )
        yield from (Fault("bad_command", why) for why in _certain_refusals(command, ledger))
        ledger = ledger.commanded(command)


def _wrong_answers(edge: Moved, asked: Request) -> Iterator[Fault]:
    """The user is to hear one answer to what he asked, whoever says it: no token of it may be
    another, be missing, or come with another's number."""
    answered = edge.before.heard(edge.cause).answered
    for command in edge.commands:
        if isinstance(command, StartGenerate) and (why := _differs(command, asked, answered)):
            yield Fault("wrong_answer", f"StartGenerate to {command.engine} {why}")


def _differs(command: StartGenerate, asked: Request, answered: Tokens) -> str:
    """What is wrong with it; empty where nothing is."""
    end = len(command.prompt) - command.offset
    if command.prompt[:end] != asked.prompt:
        return f"is not for the user's prompt with {command.offset} tokens of the answer after it"
    if command.prompt[end:] != answered[: command.offset]:
        return f"goes on from {command.offset} tokens that are not the answer so far"
    if (command.sampling, command.reply) != (asked.sampling, asked.reply):
        return "is not sampled or replied to as the user asked"
    return ""


def _certain_refusals(command: AnyCommand, ledger: Ledger) -> Iterator[str]:
    """Why every engine would refuse the command, if it would."""
    if ledger.was_released(command.engine) and not isinstance(command, Query | Release):
        yield f"{verb(command)} to {command.engine}, which was released in this attempt"
    match command:
        case PrepRecv(_, prompt, end):
            yield from _bad_range("PrepRecv", 0, end, len(prompt))
        case RemoteSend(_, prompt, _, begin, end):
            yield from _bad_range("RemoteSend", begin, end, len(prompt))
            yield from _bad_transfer(command, ledger)
        case StartGenerate(_, prompt, begin):
            yield from _bad_range("StartGenerate", begin, None, len(prompt))


def _bad_range(name: str, begin: int, end: int | None, length: int) -> Iterator[str]:
    first, last = resolve(begin, length), resolve(end, length)
    if not 0 <= first <= last <= length:
        yield f"{name} of [{begin}, {end}): the prompt has {length} tokens"
    elif first == last and name == "RemoteSend":
        yield f"RemoteSend of [{begin}, {end}): that is nothing to send"


def _bad_transfer(command: RemoteSend, ledger: Ledger) -> Iterator[str]:
    receivers = [h.engine for h in ledger.holds if h.verb == "PrepRecv"]
    receiver = next((e for e in receivers if grant_of(e) == command.grant), None)
    if receiver is None:
        yield "RemoteSend with a grant that no engine of this flow has given and still keeps"
    elif receiver == command.engine:
        yield f"{receiver} is told to send to itself"
