"""In whatever order things happen, no engine is asked for too much, and all have one end."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.effects import Effect, Send
from actors.inputs import Ticked, Withdrawn
from bus.fleet import Role
from bus.messages import (
    Answer,
    AnyCommand,
    Finished,
    Prepared,
    PrepRecv,
    Refused,
    Release,
    Released,
    RemoteSend,
    Report,
    Sent,
    StartGenerate,
    Usage,
)
from bus.public import Done, Welcome
from tests.actors.test_gate import Router, said

ENGINES: dict[str, tuple[Role, int, int]] = {
    "p0": ("prefill", 3, 24),
    "d0": ("decode", 3, 24),
    "x0": ("both", 2, 16),
}


class AnyOrder(RuleBasedStateMachine):
    """Flows come and go in any order, on engines that do what they are told, in their own time."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router("disaggregated", max_waiting=20)
        self.open: list[tuple[str, int, AnyCommand]] = []
        """Commands that engines have to answer yet."""
        self.welcomed: set[str] = set()
        self.ended: Counter[str] = Counter()
        self.number = 0
        for name, (role, slots, pages) in ENGINES.items():
            self.router.beat(name, role, slots=slots, pages=pages)

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.open.append((effect.order.flow, effect.order.attempt, effect.order.command))
        for reply in said(effects):
            if isinstance(reply, Welcome):
                self.welcomed.add(reply.flow)
            elif isinstance(reply, Done):
                self.ended[reply.flow] += 1

    @rule(size=st.integers(1, 70), answer=st.integers(1, 40), user=st.sampled_from("ab"),
          priority=st.integers(-1, 1), timeout_s=st.sampled_from([None, 3.0]))  # fmt: skip
    def ask(
        self, size: int, answer: int, user: str, priority: int, timeout_s: float | None
    ) -> None:
        self.number += 1
        self.take(self.router.ask(str(self.number), size, answer, user, priority, timeout_s))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), fails=st.booleans())
    def answer(self, data: st.DataObject, fails: bool) -> None:
        flow, attempt, command = self.open.pop(
            data.draw(st.integers(0, len(self.open) - 1), label="which")
        )
        answer = self._answer(command, fails)
        if isinstance(answer, Finished) and self._waits_for(flow, attempt, command):
            self.ended[flow] += 1
        report = Report(flow, attempt, command.engine, 1, answer)  # type: ignore[arg-type]
        self.take(self.router.hear(report))

    def _answer(self, command: AnyCommand, fails: bool) -> Answer:
        if fails and not isinstance(command, Release):
            return Refused(type(command).__name__, "busy", "no")
        match command:
            case PrepRecv():
                return Prepared(b"g", 0)
            case RemoteSend():
                return Sent(1, 0.1, "shm")
            case StartGenerate():
                return Finished("stop", Usage())
        return Released()

    def _waits_for(self, flow: str, attempt: int, command: AnyCommand) -> bool:
        known = self.router.core.flows.get(flow)
        key = (type(command).__name__, command.engine)
        return known is not None and known.attempt == attempt and key in known.owed

    @precondition(lambda self: self.router.core.flows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        flow = data.draw(st.sampled_from(sorted(self.router.core.flows)))
        self.take(self.router.hear(Withdrawn(flow)))

    @rule(seconds=st.sampled_from([0.1, 1.0]))
    def wait(self, seconds: float) -> None:
        self.router.now += seconds
        for name, (role, slots, pages) in ENGINES.items():
            self.take(self.router.beat(name, role, slots=slots, pages=pages))
        self.take(self.router.hear(Ticked()))

    @invariant()
    def no_engine_is_asked_for_more_than_it_has(self) -> None:
        slots, pages = Counter[str](), Counter[str]()
        for flow in self.router.core.flows.values():
            slots.update(flow.claims.keys())
            pages.update(flow.claims)
            assert set(flow.touched) <= set(flow.claims)
        for name, (_, most_slots, most_pages) in ENGINES.items():
            assert slots[name] <= most_slots
            assert pages[name] <= most_pages

    @invariant()
    def everybody_who_is_in_waits_or_is_at_an_engine(self) -> None:
        flows = self.router.core.flows
        waiting = [f for f in flows.values() if f.is_waiting]
        assert sum(self.router.core.statistics().waiting.values()) == len(waiting)
        assert all(f.owed for f in flows.values() if not f.is_waiting)

    @invariant()
    def everybody_who_was_welcomed_has_one_end(self) -> None:
        over = self.welcomed - set(self.router.core.flows)
        assert all(self.ended[flow] == 1 for flow in over)
        assert not any(self.ended[flow] for flow in self.router.core.flows)

    def teardown(self) -> None:
        """Let engines do what they are told: everybody gets his answer."""
        for _ in range(2000):
            if not self.open and not self.router.core.flows:
                break
            if not self.open:
                self.wait(0.1)
                continue
            flow, attempt, command = self.open.pop(0)
            answer = self._answer(command, fails=False)
            if isinstance(answer, Finished) and self._waits_for(flow, attempt, command):
                self.ended[flow] += 1
            self.take(self.router.hear(Report(flow, attempt, command.engine, 1, answer)))  # type: ignore[arg-type]
        assert self.router.core.flows == {}
        self.everybody_who_was_welcomed_has_one_end()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
