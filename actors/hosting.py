"""The engine host's core: orders in, reports and tokens out, around an `Engine` that knows no bus.

One message per mailbox and step: everything a step produced for one mailbox leaves together. Each
router that has flows here hears of all of its flows' tokens, a little later and in fewer messages.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from msgspec import Struct

from bus.codec import encode, encode_json
from bus.messages import (
    EngineEvent,
    Finished,
    Order,
    Prepared,
    Refused,
    Released,
    Report,
    Sent,
    Started,
)
from bus.public import Delta, Spoken
from bus.subjects import Subjects
from engine.news import News
from engine.outcomes import Outcome, Output, Phase, Told
from observability.command import Handled, command_spans
from observability.logs import about
from observability.spans import Attribute, Span, SpanContext, trace_id_of

from .door import Door
from .effects import Effect, Publish, Record
from .following import Following
from .transferred import Transferred, Transfers

logger = logging.getLogger("microserve.engine")


class Engine(Protocol):
    """What a host needs of an engine: `engine.engine.Engine`, or anything that behaves like it."""

    def is_repeat(self, order: Order) -> bool: ...

    def handle(self, event: Order | News, now: float) -> list[Outcome]: ...

    def step(self, now: float) -> list[Outcome]: ...


class HostStatistics(Struct, frozen=True):
    orders: int
    open: int
    """Commands accepted and not yet ended."""
    refusals: dict[str, int]
    """By reason."""
    tokens: int
    messages: int
    """Published to mailboxes of users."""
    transfers: dict[str, Transferred]
    """By lane."""


@dataclass
class _Accepted:
    """A command that has been accepted and has not ended."""

    parent: SpanContext | None
    began_s: float
    phases: tuple[Phase, ...] = ()
    """Of what it has told so far."""


@dataclass
class _Leg:
    """What one flow has open on this engine, in its latest attempt."""

    attempt: int
    router: str
    accepted: dict[str, _Accepted] = field(default_factory=dict)
    """By verb."""

    def whose(self, phase: Phase, teller: str) -> _Accepted:
        """Whose work it was: a `Suspend` tells of the decoding that it broke off, which began
        before it and is the other command's."""
        told = self.accepted[teller]
        earlier = [a for a in self.accepted.values() if a.began_s <= phase.begin_s < told.began_s]
        return max(earlier, key=lambda a: a.began_s) if earlier else told


class HostCore:
    """Pure: no clock, no thread. One caller at a time, as for the engine inside."""

    def __init__(
        self, name: str, epoch: int, engine: Engine, subjects: Subjects, door: Door | None = None
    ) -> None:
        """Without a door everybody comes in."""
        self.name, self.epoch, self.engine, self.subjects = name, epoch, engine, subjects
        self._door = door
        self._legs: dict[str, _Leg] = {}
        self._following = Following()
        self._orders = self._tokens = self._messages = 0
        self._refusals, self._transfers = Counter[str](), Transfers()

    def order(self, order: Order, parent: SpanContext | None, now: float) -> list[Effect]:
        """Carry out one order; a repeat changes nothing."""
        self._orders += 1
        if self._door and (refused := self._door.turned_away(order)):
            self._refusals[refused.reason] += 1
            return [self._say(order.router, order.flow, order.attempt, refused)]
        leg = self._legs.get(order.flow)
        if leg and leg.attempt > order.attempt:
            return [self._stale(order, leg.attempt)]
        if self.engine.is_repeat(order):
            return []
        if leg is None or leg.attempt < order.attempt:
            leg = self._legs[order.flow] = _Leg(order.attempt, order.router)
        leg.accepted.setdefault(type(order.command).__name__, _Accepted(parent, now))
        return self.outcomes(self.engine.handle(order, now), now)

    def news(self, event: News, now: float) -> list[Effect]:
        """Hand on what the KV transport or the compiler of grammars said."""
        return self.outcomes(self.engine.handle(event, now), now)

    def outcomes(self, outcomes: Iterable[Outcome], now: float) -> list[Effect]:
        """What has to leave this engine because of what it did.

        Users first: their tokens go before anything else that a step has to say. A router hears of
        all tokens before it hears that anything began or ended.
        """
        outputs: list[Output] = []
        told: list[Told] = []
        for outcome in outcomes:
            if isinstance(outcome, Told):
                told.append(outcome)
            else:
                outputs.append(outcome)
        effects: list[Effect] = [*self._letters(outputs)] if outputs else []
        if told or self._following.is_due(now):
            effects += self.follow(now)
        for one in told:
            effects += self._report(one, now)
        return effects

    def follow(self, now: float) -> list[Effect]:
        """Tell routers at once what they have not been told. Due where no step is going to come."""
        return [
            Publish(self.subjects.tokens(router), encode(progress))
            for router, progress in self._following.take(now)
        ]

    def statistics(self) -> HostStatistics:
        accepted = sum(len(leg.accepted) for leg in self._legs.values())
        return HostStatistics(
            self._orders,
            accepted,
            dict(self._refusals),
            self._tokens,
            self._messages,
            self._transfers.by_lane(),
        )

    # --- tokens ---

    def _letters(self, outputs: list[Output]) -> list[Publish]:
        """Users' mail; what the routers follow is noted for later."""
        mail: list[Publish] = []
        boxes: dict[str, list[Spoken]] = defaultdict(list)
        for output in outputs:
            message, reply = output.message, output.reply
            if reply.encoding == "json":  # read by people: one object per message
                mail.append(Publish(reply.subject, encode_json(message)))
            else:
                boxes[reply.subject].append(message)
            if isinstance(message, Delta):
                self._tokens += len(message.tokens)
                leg = self._legs.get(output.flow)
                if leg is not None:
                    self._following.add(leg.router, message)
        mail += [Publish(subject, encode(batch)) for subject, batch in boxes.items()]
        self._messages += len(mail)
        return mail

    # --- events ---

    def _stale(self, order: Order, attempt: int) -> Publish:
        self._refusals["stale_attempt"] += 1
        verb = type(order.command).__name__
        message = f"attempt {order.attempt} of this flow is over: it is at attempt {attempt}"
        refused = Refused(verb, "stale_attempt", message)
        return self._say(order.router, order.flow, order.attempt, refused)

    def _report(self, told: Told, now: float) -> list[Effect]:
        leg = self._legs.get(told.flow)
        if leg is None or leg.attempt != told.attempt or told.verb not in leg.accepted:
            return []
        publish = self._say(leg.router, told.flow, told.attempt, told.event)
        for phase in told.phases:
            leg.whose(phase, told.verb).phases += (phase,)
        if isinstance(told.event, Started):
            return [publish]
        self._transfers.add(told.phases)
        if isinstance(told.event, Refused):
            self._refusals[told.event.reason] += 1
            self._log_refusal(told, told.event, leg.accepted[told.verb].parent)
        spans = tuple(self._close(leg, told, now))
        return [publish, Record(spans)] if spans else [publish]

    def _log_refusal(self, told: Told, refused: Refused, parent: SpanContext | None) -> None:
        trace_id = parent.trace_id if parent else trace_id_of(told.flow)
        fields = about(flow=told.flow, trace=trace_id, engine=self.name, reason=refused.reason)
        logger.info("%s refused: %s", told.verb, refused.message, extra=fields)

    def _say(self, router: str, flow: str, attempt: int, event: EngineEvent) -> Publish:
        report = Report(flow, attempt, self.name, self.epoch, event)
        return Publish(self.subjects.event(router), encode(report))

    def _close(self, leg: _Leg, told: Told, now: float) -> Iterator[Span]:
        """The spans of the command that ended; a release ends every command of its flow."""
        released = isinstance(told.event, Released)
        ended = list(leg.accepted) if released else [told.verb]
        for verb in ended:
            yield from self._spans(told, verb, leg.accepted.pop(verb), now)
        if not leg.accepted:
            del self._legs[told.flow]

    def _spans(self, told: Told, verb: str, accepted: _Accepted, now: float) -> list[Span]:
        if accepted.parent is not None and not accepted.parent.sampled:
            return []
        own = verb == told.verb
        handled = Handled(
            told.flow,
            told.attempt,
            verb,
            self.name,
            accepted.began_s,
            now,
            accepted.phases,
            _attributes(told.event) if own else {},
            _error(told.event) if own else _broken_off(accepted),
        )
        return command_spans(accepted.parent, handled)


def _error(event: EngineEvent) -> str | None:
    return f"{event.reason}: {event.message}" if isinstance(event, Refused) else None


def _broken_off(accepted: _Accepted) -> str | None:
    """Nothing, where a transfer was over and the release came before its notice."""
    return None if any(p.name == "transfer" for p in accepted.phases) else "released"


def _attributes(event: EngineEvent) -> dict[str, Attribute]:
    match event:
        case Prepared(_, matched):
            return {"microserve.matched_tokens": matched}
        case Sent(matched=matched, num_bytes=num_bytes):
            return {"microserve.matched_tokens": matched, "microserve.kv.bytes": num_bytes}
        case Finished(reason, usage):
            return {
                "gen_ai.response.finish_reasons": (reason,),
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "microserve.cached_tokens": usage.cached_tokens,
            }
    return {}
