"""The desk where orders come in: repeats, epochs, higher attempts, and whose work a command is."""

from __future__ import annotations

from typing import TypeAlias

from bus.messages import (
    Commit,
    Matched,
    Order,
    PrepRecv,
    Query,
    Refused,
    Release,
    Released,
    RemoteSend,
    StartGenerate,
    Suspend,
)

from .acceptance import accept_adapter, accept_prompt
from .config import EngineConfig
from .delivering import Delivering
from .flows import Flow
from .generating import Generating
from .outcomes import Outcome, Told
from .parts import Parts
from .receiving import Receiving
from .refusal import Refusal
from .survey import survey

Start: TypeAlias = PrepRecv | RemoteSend | StartGenerate


class Obeying:
    def __init__(
        self, parts: Parts, generating: Generating, receiving: Receiving, delivering: Delivering
    ) -> None:
        self._parts, self._generating = parts, generating
        self._receiving, self._delivering = receiving, delivering

    def obey(self, order: Order, now: float) -> list[Outcome]:
        """Begin what it asks, or say why not. A repeat is silent."""
        verb = type(order.command).__name__
        try:
            return self._begun(order, verb, now)
        except Refusal as refusal:
            self._parts.counters.refused += 1
            event = Refused(verb, refusal.reason, refusal.message)
            return [Told(order.flow, order.attempt, verb, event)]

    def is_repeat(self, order: Order) -> bool:
        """It is going to be answered, or was: `obey` has nothing to say to it."""
        try:
            _check_epoch(order, self._parts.config)
            return self._parts.flows.is_repeat(order)
        except Refusal:
            return False

    def _begun(self, order: Order, verb: str, now: float) -> list[Outcome]:
        _check_epoch(order, self._parts.config)
        if isinstance(order.command, Query):
            accept_adapter(order.adapter, self._parts.card)
            event = self._matched(order.command, order.adapter)
            return [Told(order.flow, order.attempt, verb, event)]
        if isinstance(order.command, Release):
            return self._release(order, now)
        if self._parts.flows.is_repeat(order):
            return []
        accept_adapter(order.adapter, self._parts.card)
        self._supersede(order, now)
        if isinstance(order.command, Commit | Suspend):
            return self._control(order, order.command, verb, now)
        return self._start(order, order.command, verb, now)

    def _start(self, order: Order, command: Start, verb: str, now: float) -> list[Outcome]:
        """A refused one counts as taken: a repeat of it must not begin what the first did not."""
        flow = self._parts.flows.open(order)
        flow.verbs.add(verb)
        try:
            outcomes = self._started(flow, order, command, now)
        except Refusal:
            flow.refused.add(verb)
            self._parts.settle(flow)
            raise
        return outcomes + self._parts.settle(flow)

    def _started(self, flow: Flow, order: Order, command: Start, now: float) -> list[Outcome]:
        match command:
            case PrepRecv():
                return self._receiving.prepare(flow, command, now)
            case RemoteSend():
                return self._delivering.send(flow, command, now)
            case StartGenerate():
                outcomes = self._generating.start(flow, command, now)
                if flow.generation is None:  # over before it began: the context has no use
                    self._receiving.revoke(flow)
                return outcomes

    def _control(
        self, order: Order, command: Commit | Suspend, verb: str, now: float
    ) -> list[Outcome]:
        """A refused one leaves no memory: it may come again when the phase is right."""
        flow = self._parts.flows.current(order.flow)
        if flow is None:
            raise Refusal("no_such_flow", f"nothing of flow {order.flow} is here")
        match command:
            case Commit():
                outcomes = self._receiving.commit(flow, now)
            case Suspend():
                outcomes = self._generating.suspend(flow, now)
        flow.verbs.add(verb)
        return outcomes + self._parts.settle(flow)

    def _release(self, order: Order, now: float) -> list[Outcome]:
        self._supersede(order, now)
        flow = self._parts.flows.find((order.flow, order.attempt))
        if flow is None:
            self._parts.flows.close(order)
            return [Told(order.flow, order.attempt, "Release", Released())]
        if flow.releasing:
            return []
        flow.releasing = True
        flow.verbs.add("Release")
        return self._let_go(flow, now)

    def _supersede(self, order: Order, now: float) -> None:
        older = self._parts.flows.supersede(order)
        if older:
            self._let_go(older, now)

    def _let_go(self, flow: Flow, now: float) -> list[Outcome]:
        self._generating.break_off(flow, now)
        self._receiving.revoke(flow)
        self._delivering.break_off(flow, now)
        return self._parts.settle(flow)

    def _matched(self, command: Query, adapter: str) -> Matched:
        ids = accept_prompt(command.prompt, self._parts.card)
        matched, now = self._parts.pages.num_known(ids, adapter), survey(self._parts)
        return Matched(matched, now.load, now.available_pages)


def _check_epoch(order: Order, config: EngineConfig) -> None:
    if order.epoch not in (0, config.epoch):
        raise Refusal(
            "stale_epoch",
            f"the order is for incarnation {order.epoch} of {config.name}; "
            f"this is {config.epoch}: what was there before is gone",
        )
