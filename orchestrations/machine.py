"""The states every strategy shares, and the transitions that are the same for all.

A strategy is a pure function ``(state, event) -> (state, commands)``. It handles what is its own
and hands the rest to `common`:

```
Idle --Submitted--> Preparing --Prepared--> Sending --Sent, Started--> Generating --Finished--> Done
  |                     |                                                  ^   |
  |                     +---- all is cached -------------------------------+   |
  +---- one engine does it all ------------------------------------------>-+   |
       any of them --Cancelled, TimedOut, Refused, EngineLost--> Done (pages released)
```

The decoder is told to start together with the transfer, and begins when the last byte has landed:
that saves the way from the prefiller to the router and on to the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from bus.messages import (
    Answer,
    AnyCommand,
    Cancelled,
    Directed,
    EngineLost,
    Event,
    Finished,
    PrepRecv,
    Refused,
    Release,
    RemoteSend,
    Request,
    Sent,
    Started,
    StartGenerate,
    Superseded,
    TimedOut,
)
from bus.tokens import Tokens

FEW_OF: Final = 8
"""One of so many tokens is few."""


class Job(Struct, frozen=True):
    """One request and the engines chosen for it.

    ```
    prompt  |<----- prefill: prompt[:split] ----->|<-- decode: prompt[split:] -->| answer ...
            0                                   split                     len(prompt)
    ```
    """

    request: Request
    decode: str
    """The engine that generates."""
    prefill: str = ""
    """The engine that computes ``prompt[:split]``; empty where the decoder does everything."""
    split: int = 0

    @property
    def prompt(self) -> Tokens:
        return self.request.prompt

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(e for e in (self.prefill, self.decode) if e)

    def release(self, lost: str = "") -> list[AnyCommand]:
        """Tell every engine of this job, but the lost one, to free its pages."""
        return [Release(e) for e in self.engines if e != lost]


class Idle(Struct, frozen=True, tag=True):
    """Nothing has been asked yet."""


class Preparing(Struct, frozen=True, tag=True):
    """The decoder is reserving pages for the prompt."""

    job: Job


class Sending(Struct, frozen=True, tag=True):
    """The prefiller is computing pages and writing them into the decoder's, which will begin by
    itself."""

    job: Job


class Generating(Struct, frozen=True, tag=True):
    """The decoder is answering; tokens go straight to the user. Where there is a ``prefill``, it
    has not yet said itself that all has arrived."""

    job: Job


Outcome: TypeAlias = Literal[
    "finished", "kept", "cancelled", "timed_out", "engine_lost", "refused", "superseded"
]


class Done(Struct, frozen=True, tag=True):
    """The end. The user has the engine's last word where ``outcome`` is ``finished``, and will
    have another router's where it is ``superseded``; else our router says it, with ``message``.
    Where a context was ``kept``, nobody was to generate."""

    outcome: Outcome
    message: str = ""


class Renew(Struct, frozen=True, tag=True):
    """To the router, among the commands: what follows belongs to a new attempt.

    An engine carries out one command of a verb per attempt, and what it was told in an earlier
    attempt it drops when it hears of a later one. Answers to earlier commands are not heard any
    more; so release every engine that is alive first, also those that are used again: what they
    have computed stays in their caches.
    """


State: TypeAlias = Idle | Preparing | Sending | Generating | Done
Instruction: TypeAlias = AnyCommand | Renew
Step: TypeAlias = tuple[State, Sequence[Instruction]]
Strategy: TypeAlias = Callable[[State, Event], Step]
S = TypeVar("S", bound=Struct)
"""A state, perhaps a strategy's own."""


class Unexpected(Exception):
    """No transition leads out of this state by this event."""

    def __init__(self, state: Struct, event: Event) -> None:
        super().__init__(f"{type(event).__name__} while {type(state).__name__}")
        self.state, self.event = state, event


def prepare(job: Job) -> Step:
    """Have the decoder reserve pages for what the prefiller will send; or have it answer, where
    nobody is to send anything."""
    if job.prefill in ("", job.decode) or job.split == 0:
        return generate(Job(job.request, job.decode))
    return Preparing(job), [PrepRecv(job.decode, job.prompt, end=job.split)]


def send(job: Job, grant: bytes, matched: int) -> Step:
    """Have the prefiller send what the decoder does not have, and the decoder answer as soon as it
    is there; where it has everything, at once."""
    if matched == job.split:
        return generate(job)
    sent = RemoteSend(job.prefill, job.prompt, grant, matched, job.split)
    return Sending(job), [sent, _start(job)]


def generate(job: Job) -> Step:
    """Have the decoder answer. The prefiller, if there was one, is out of it from here on."""
    return Generating(replace(job, prefill="")), [_start(job)]


def nearly_all(num_tokens: int, cached: int) -> bool:
    """Is so much of so many tokens cached that the rest is not worth another engine?"""
    return 0 < cached < num_tokens <= cached + num_tokens // FEW_OF


def alone(job: Job, engine: str) -> Step:
    """Leave everything that was begun, and have one engine do it all."""
    state, commands = generate(Job(job.request, engine))
    return state, [*job.release(), Renew(), *commands]


def _start(job: Job) -> StartGenerate:
    asked = job.request
    return StartGenerate(
        job.decode, job.prompt, job.split, asked.sampling, asked.reply, asked.offset
    )


def common(state: State, event: Event) -> Step:
    """What every strategy does with the events that it does not handle itself.

    An engine's event that nobody waits for is late or a duplicate, and changes nothing.

    Raises:
        Unexpected: the router made an event that cannot be, such as a second `Submitted`.
    """
    match state, event:
        case Done(), _:
            return state, []
        case Sending(job), Started():
            return Generating(job), []
        case ((Sending(job) | Generating(job)), Sent()):
            return Generating(replace(job, prefill="")), []
        case ((Sending(job) | Generating(job)), Finished()):
            return Done("finished"), [Release(job.prefill)] if job.prefill else []
        case Generating(job), Refused("RemoteSend"):  # late: what it sent had arrived
            return Generating(replace(job, prefill="")), []
        case Generating(job), EngineLost(lost) if lost == job.prefill:
            return Generating(replace(job, prefill="")), []
        case Preparing(job) | Sending(job) | Generating(job), _:
            return interrupted(state, job, event)
    raise Unexpected(state, event)


def interrupted(state: S, job: Job, event: Event) -> tuple[S | Done, Sequence[Instruction]]:
    """Give up, pages released, where the event leaves no other way; else stay."""
    match event:
        case Cancelled():
            return Done("cancelled"), job.release()
        case TimedOut():
            name = type(state).__name__.lower()
            return Done("timed_out", f"no progress while {name}"), job.release()
        case Refused(verb, reason, message):
            return Done("refused", f"{verb} refused ({reason}): {message}"), job.release()
        case EngineLost(lost) if lost in job.engines:
            return Done("engine_lost", f"engine {lost} was lost"), job.release(lost)
        case Superseded():
            return Done("superseded"), []
        case EngineLost() | Directed() | Answer():
            return state, []
    raise Unexpected(state, event)
