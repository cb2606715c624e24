"""A random walk over three engines and their wires, with a ledger of what was promised."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from bus.messages import (
    AnyCommand,
    Commit,
    Order,
    Prepared,
    PrepRecv,
    Query,
    Refused,
    Release,
    RemoteSend,
    Sampling,
    Started,
    StartGenerate,
    Suspend,
    Suspended,
)
from bus.public import Delta, Done, Echo
from bus.tokens import Tokens
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork
from engine.outcomes import Outcome, Told

from .rig import BOX, Rig, small

NAMES = "abc"
Place: TypeAlias = tuple[str, str, int]
"""Engine, flow, attempt."""
Key: TypeAlias = tuple[str, str, int, str]
"""And verb: one order."""


class Ledger:
    """What the engines were asked, and how each order ended."""

    def __init__(self) -> None:
        self.orders: dict[Key, Order] = {}
        self.ended: Counter[Key] = Counter()
        """Endings besides refusals."""
        self.refused: Counter[Key] = Counter()
        self.excused: set[Key] = set()
        """A release or a higher attempt came after them: they need not end in words."""
        self.suspended: set[Place] = set()
        self.answers: dict[tuple[Place, int], list[int]] = {}
        """By choice."""
        self.grants: list[tuple[str, Order, Prepared]] = []

    def take(self, name: str, order: Order) -> bool:
        """Write an order down. False: it was taken before."""
        if isinstance(order.command, Query):
            return True
        for key in self.orders:
            same_flow = key[:2] == (name, order.flow)
            is_over = key[2] < order.attempt or isinstance(order.command, Release)
            if same_flow and key[2] <= order.attempt and is_over and key[3] != "Release":
                self.excused.add(key)
        key = name, order.flow, order.attempt, type(order.command).__name__
        is_new = key not in self.orders
        self.orders.setdefault(key, order)
        return is_new

    def note(self, name: str, outcome: Outcome) -> None:
        place = name, outcome.flow, outcome.attempt
        if isinstance(outcome, Told):
            self._note_event(place, outcome)
            return
        assert (*place, "Release") not in self.orders, "an output after a release"
        command = self.orders[*place, "StartGenerate"].command
        assert isinstance(command, StartGenerate)
        if isinstance(outcome.message, Echo):
            assert not self.answers.get((place, 0)), "the prompt after the answer has begun"
        elif not isinstance(outcome.message, Done):
            answer = self.answers.setdefault((place, outcome.message.choice), [])
            at = command.offset + len(answer)
            assert outcome.message.offset == at, "a token twice, or missing"
            answer += outcome.message.tokens if isinstance(outcome.message, Delta) else ()
        elif outcome.message.reason != "error":
            told = sum(len(tokens) for (of, _), tokens in self.answers.items() if of == place)
            assert outcome.message.offset == command.offset + told, "a token twice, or missing"

    def _note_event(self, place: Place, told: Told) -> None:
        if told.verb == "Query" or isinstance(told.event, Started):
            return
        key = *place, told.verb
        books = self.refused if isinstance(told.event, Refused) else self.ended
        books[key] += 1
        if isinstance(told.event, Suspended):
            self.suspended.add(place)
        if isinstance(told.event, Prepared) and told.event.grant:
            self.grants.append((place[0], self.orders[key], told.event))

    def outstanding(self) -> set[Key]:
        """Orders that have to end yet."""
        return {
            key
            for key in self.orders
            if key not in self.excused and not self.ended[key] and not self.refused[key]
        }

    def check(self) -> None:
        """Nothing ended twice; a start that was refused did not end as well."""
        for key in self.orders:
            if key[3] == "Release":
                continue
            assert self.ended[key] <= 1, f"{key} ended {self.ended[key]} times"
            if key[3] not in ("Suspend", "Commit"):
                assert not (self.ended[key] and self.refused[key]), f"{key} ended and was refused"


class Walk:
    def __init__(self, seed: int, num_pages: int, num_slots: int = 0) -> None:
        self.random, self.ledger, self.network = Random(seed), Ledger(), FakeNetwork()
        card = fake_card(num_pages=num_pages, max_context=64, adapters=["x"])
        limits = {"max_batch_tokens": 24, "max_running": 4, "prefill_chunk": 7, "draft_tokens": 3}
        self.rigs = {
            n: Rig(self.network, n, card, small(n, **limits), num_slots=num_slots) for n in NAMES
        }
        self.prompts: dict[str, Tokens] = {}
        self.attempts: dict[str, int] = {}
        self.priorities: dict[str, int] = {}
        self.adapters: dict[str, str] = {}

    def move(self) -> None:
        """Something that can happen happens."""
        chance, wires = self.random.random(), self.network.actions()
        if chance < 0.3:
            self.step(self.random.choice(NAMES))
        elif chance < 0.5 and wires:
            wire = self.random.choice(wires)
            if wire.func.__name__ not in ("fail", "expire") or self.random.random() < 0.1:
                wire()
        elif chance < 0.7:
            self.listen(self.random.choice(NAMES))
        elif chance < 0.75 and self.ledger.orders:
            key, order = self.random.choice(list(self.ledger.orders.items()))
            self.hand_in(key[0], order)
        elif chance < 0.85 and self.ledger.grants:
            self.send()
        else:
            self.ask()

    def ask(self) -> None:
        name, flow = self.random.choice(NAMES), self.flow()
        self.prompts.setdefault(flow, self.prompt())
        attempt = self.attempts.setdefault(flow, 1)
        if self.random.random() < 0.1:
            attempt = self.attempts[flow] = attempt + 1
        priority = self.priorities.setdefault(flow, self.random.choice([0, 0, 0, 1, -1]))
        command = self.command(name, self.prompts[flow])
        adapter = self.adapters.setdefault(flow, self.random.choice(["", "", "x"]))
        order = Order(flow, attempt, "r", command, priority=priority, adapter=adapter)
        self.hand_in(name, order)

    def flow(self) -> str:
        """A new one now and then, else one of the youngest."""
        young = list(self.prompts)[-6:]
        if not young or self.random.random() < 0.3:
            return f"f{len(self.prompts)}"
        return self.random.choice(young)

    def command(self, name: str, prompt: Tokens) -> AnyCommand:
        simple: list[AnyCommand] = [Commit(name), Commit(name), Suspend(name), Release(name)]
        chance = self.random.random()
        if chance < 0.35:
            return PrepRecv(name, prompt, self.random.choice([None, -1, len(prompt) // 2]))
        if chance < 0.75:
            return self.generate(name, prompt)
        return self.random.choice([*simple, Query(name, prompt)])

    def generate(self, name: str, prompt: Tokens) -> StartGenerate:
        offset = self.random.choice([0, 0, self.random.randrange(len(prompt))])
        sampling = Sampling(
            max_tokens=offset + self.random.randint(1, 20),
            temperature=self.random.choice([0.0, 0.8]),
            prompt_logprobs=self.random.choice([None, None, 1]),
            seed=self.random.randrange(100),
            n=1 if offset else self.random.choice([1, 1, 3]),
            logit_bias=self.random.choice([(), (), ((7, 100.0), (8, 100.0))]),
        )
        return StartGenerate(name, prompt, 0, sampling, BOX, offset)

    def send(self) -> None:
        receiver, order, prepared = self.ledger.grants.pop(
            self.random.randrange(len(self.ledger.grants))
        )
        name = self.random.choice(NAMES.replace(receiver, ""))
        prepare = order.command
        assert isinstance(prepare, PrepRecv)
        command = RemoteSend(name, prepare.prompt, prepared.grant, prepared.matched, prepare.end)
        self.hand_in(name, replace(order, command=command))

    def prompt(self) -> Tokens:
        shared = range(self.random.choice([0, 4, 9, 16, 23]))
        return Tokens([*shared, *(self.random.randrange(1000) for _ in range(1 + len(shared) % 7))])

    def hand_in(self, name: str, order: Order) -> None:
        is_new = self.ledger.take(name, order)
        outcomes = self.rigs[name].engine.handle(order, 0.0)
        verb = type(order.command).__name__
        for outcome in outcomes:
            again = not is_new and isinstance(outcome, Told) and outcome.verb == verb
            if again and isinstance(outcome.event, Refused):  # type: ignore[union-attr]
                continue
            self.ledger.note(name, outcome)
        self.rigs[name].engine.check_integrity()

    def step(self, name: str) -> None:
        self.note(name, self.rigs[name].engine.step(0.0))

    def listen(self, name: str) -> None:
        if self.network.events[name]:
            event = self.network.events[name].popleft()
            self.note(name, self.rigs[name].engine.handle(event, 0.0))

    def note(self, name: str, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.ledger.note(name, outcome)
        self.rigs[name].engine.check_integrity()

    # --- the end ---

    def finish(self) -> None:
        """Everything comes to its end by itself, but for what was suspended; then all is let go."""
        self.drain()
        for key in self.ledger.outstanding():
            assert key[3] == "StartGenerate", f"{key} never ended"
            assert key[:3] in self.ledger.suspended, f"{key} never ended"
        for name, flow, attempt, _ in list(self.ledger.orders):
            self.hand_in(name, Order(flow, attempt, "r", Release(name)))
        self.drain()
        self.ledger.check()
        for rig in self.rigs.values():
            rig.assert_empty()

    def drain(self) -> None:
        """Until nothing moves any more. Leases run out as a last resort only: of grants that
        nobody writes, and of those whose writers wait for pages that other grants hold."""
        for _ in range(400):
            self.settle()
            if not self.network.granted:
                return
            idle = [granted for granted in self.network.granted.values() if not granted.writer]
            for granted in idle or list(self.network.granted.values()):
                self.network.expire(granted)
        raise AssertionError("the wires never come to rest")

    def settle(self) -> None:
        """Everything that can go on without a lease running out."""
        moved = True
        while moved:
            self.network.settle()
            moved = any(self.network.events.values())
            for name in NAMES:
                while self.network.events[name]:
                    self.listen(name)
                while self.rigs[name].engine.has_work:
                    moved = True
                    self.step(name)

    def check_tokens(self) -> int:
        """Every answer, however short it was cut, is what must follow. Returns how many tokens."""
        for ((name, flow, attempt), choice), answer in self.ledger.answers.items():
            order = self.ledger.orders[name, flow, attempt, "StartGenerate"]
            command, runner = order.command, self.rigs[name].runner
            assert isinstance(command, StartGenerate)
            given = (command.prompt, len(answer), command.sampling, choice, order.adapter)
            assert answer == runner.continuation(*given)
        return sum(map(len, self.ledger.answers.values()))
