"""One request on its way: the state of its strategy, what engines owe it, and its trace."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bus.messages import (
    Answer,
    AnyCommand,
    Committed,
    Event,
    Finished,
    Followed,
    Matched,
    Order,
    Prepared,
    Reason,
    Refused,
    Release,
    Released,
    Request,
    Sent,
    Started,
    Suspended,
)
from bus.prefixes import chain
from bus.tokens import Tokens
from observability.beginning import Trace
from observability.logs import about
from orchestrations.machine import Done, Idle, Instruction, Preparing, State

from .admission import Waiter
from .catalog import Serving
from .known_engine import Work
from .recording import MAX_STEPS, RecordedStep, Recording
from .versions import Ref

ANSWERS: dict[type, str] = {
    Prepared: "PrepRecv",
    Sent: "RemoteSend",
    Started: "StartGenerate",
    Finished: "StartGenerate",
    Committed: "Commit",
    Suspended: "Suspend",
    Released: "Release",
    Matched: "Query",
}

LAST_ANSWERS = (Sent, Finished, Committed, Released)
"""After one of these an engine holds nothing for the flow, unless it owes another answer. Not so
after `Refused`: what an earlier command took is still held."""


def verb_of(answer: Answer) -> str:
    """The name of the command that this event answers."""
    return answer.verb if isinstance(answer, Refused) else ANSWERS[type(answer)]


@dataclass
class Flow:
    """Everything the router knows of one request."""

    id: str
    model: str
    slot: str | None
    """The orchestration that was asked for; None leaves it to the router."""
    serving: Serving
    """The strategy that this flow runs, from its beginning to its end."""
    request: Request
    waiter: Waiter
    trace: Trace
    began_s: float
    active_s: float
    """When anything last happened: the stall timer runs from here."""
    deadline_s: float
    policy: Ref | None = None
    """What chose the strategy, where something did."""
    is_waiting: bool = True
    """For room; its strategy has not been told of it yet."""
    num_returns: int = 0
    """How often it went back to waiting, since there was no room after all."""
    state: State = field(default_factory=Idle)
    attempt: int = 1
    owed: dict[tuple[str, str], Order] = field(default_factory=dict)
    """Commands without an answer, by (verb, engine)."""
    pending: dict[tuple[str, str], int] = field(default_factory=dict)
    """Tokens of the prompt that an engine was told to compute, and has not said that it has, by
    (verb, engine)."""
    touched: set[str] = field(default_factory=set)
    """Engines that may hold something for this flow."""
    answers: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Each answer so far, by choice, as the router's own mailbox told it."""
    first_token_s: float | None = None
    fault: Reason = "internal"
    """Why the strategy could not go on, where it raised."""
    claims: Mapping[str, int] = field(default_factory=dict)
    """Pages that room is kept for, by engine: those it is at, and those it is going to."""
    cached: Mapping[str, int] = field(default_factory=dict)
    """Tokens at the start of the prompt that engines had when it was bound."""
    steps: list[RecordedStep] = field(default_factory=list)
    _chains: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def answered(self) -> Tokens:
        """What a new attempt can go on from. Several answers are all made again, to the same
        tokens: an engine begins them together."""
        return Tokens(self.answers[0] if self.request.sampling.n == 1 else ())

    @property
    def about(self) -> dict[str, dict[str, str | int | float]]:
        """What a line in the log has to say of it."""
        return about(flow=self.id, trace=self.trace.context.trace_id)

    @property
    def num_tokens(self) -> int:
        """Of all answers so far."""
        return sum(map(len, self.answers.values()))

    @property
    def done(self) -> Done | None:
        return self.state if isinstance(self.state, Done) else None

    def settle(self, engine: str, answer: Answer) -> bool:
        """Strike the command that this answers off what is owed; False where nobody owes it,
        which is to say that the answer is late or a duplicate."""
        key = (verb_of(answer), engine)
        if key not in self.owed:
            return False
        self.pending.pop(key, None)
        if not isinstance(answer, Started):
            del self.owed[key]
        if isinstance(answer, LAST_ANSWERS) and not self.owes(engine):
            self.touched.discard(engine)
        return True

    def owes(self, engine: str) -> bool:
        return any(owing == engine for _, owing in self.owed)

    def order(self, command: AnyCommand, router: str, epoch: int) -> Order:
        """The command on the wire, owed from now on."""
        asked = self.request
        order = Order(self.id, self.attempt, router, command, epoch, asked.priority, asked.adapter)
        self.owed[type(command).__name__, command.engine] = order
        self.touched.add(command.engine)
        return order

    def works(self) -> dict[str, Work]:
        """What engines have to do for it, by name, as far as they have not said that they did.
        While pages are being reserved, that is what they are going to be told then."""
        n, answers, tokens = self.request.sampling.n, Counter[str](), Counter[str]()
        for (_, engine), num_tokens in self.pending.items():
            tokens[engine] += num_tokens
        answers.update({e: n for verb, e in self.owed if verb == "StartGenerate"})
        if isinstance(self.state, Preparing) and self.request.sampling.max_tokens:
            job, size = self.state.job, len(self.request.prompt)
            tokens[job.prefill] += max(0, job.split - self.cached.get(job.prefill, 0))
            tokens[job.decode] += size - max(job.split, self.cached.get(job.decode, 0))
            answers[job.decode] += n
        return {e: Work(tokens[e], answers[e]) for e in {*tokens, *answers}}

    def heard(self, more: Followed, now: float) -> None:
        """More of the answer; what was seen already adds nothing."""
        self.active_s = now
        if self.first_token_s is None:
            self.first_token_s = now
        answer = self.answers[more.choice]
        missing = more.offset + len(more.tokens) - len(answer)
        if 0 < missing <= len(more.tokens):
            answer.extend(more.tokens[-missing:])

    def forget_engine(self, engine: str) -> list[str]:
        """Nothing is owed by an engine that is gone; returns the verbs it did owe."""
        verbs = [verb for verb, owing in self.owed if owing == engine]
        for verb in verbs:
            del self.owed[verb, engine]
            self.pending.pop((verb, engine), None)
        self.touched.discard(engine)
        return verbs

    def renew(self) -> None:
        """What follows is a new attempt: nothing that was ordered before is waited for."""
        self.attempt += 1
        self.owed.clear()
        self.pending.clear()
        self.touched.clear()

    def chain(self, page_size: int) -> tuple[int, ...]:
        """The hashes of the prompt's pages."""
        if page_size not in self._chains:
            self._chains[page_size] = chain(self.request.prompt, page_size, self.request.adapter)
        return self._chains[page_size]

    def stepped(self, event: Event, commands: Sequence[Instruction], now: float) -> None:
        """Remember what the strategy did with this event."""
        if len(self.steps) <= MAX_STEPS:
            state, at_s = type(self.state).__name__, now - self.began_s
            self.steps.append(RecordedStep(at_s, event, state, tuple(commands)))

    def recording(self) -> Recording:
        return Recording(
            self.id,
            self.model,
            self.serving.ref.name,
            self.serving.ref.number,
            self.began_s,
            self.done.outcome if self.done else "",
            tuple(self.steps[:MAX_STEPS]),
            len(self.steps) <= MAX_STEPS,
        )

    def releases(self) -> list[AnyCommand]:
        """What frees every page of this flow, whatever its strategy thinks."""
        return [Release(engine) for engine in sorted(self.touched)]
