"""The more urgent goes first and gives way last; nobody loses a token for it."""

from __future__ import annotations

from collections.abc import Iterable

from bus.messages import Finished, PrepRecv, RemoteSend
from bus.tokens import Tokens
from engine.config import EngineConfig
from engine.context import Context
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork
from engine.outcomes import Outcome, Told
from engine.pages import Pages
from engine.prefix_cache import Node
from engine.rank import Rank
from engine.runner import Ids
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.statistics import Counters

from .rig import Rig, small, tokens
from .test_pages import computed, ids


def finished(outcomes: Iterable[Outcome]) -> list[str]:
    """Flows in the order in which they ended."""
    return [o.flow for o in outcomes if isinstance(o, Told) and isinstance(o.event, Finished)]


def test_the_more_urgent_begins_first_and_equals_in_the_order_of_arrival() -> None:
    rig = Rig(config=small(max_running=1))
    for flow, priority in (("a", 0), ("b", -1), ("c", 2), ("d", 0), ("e", 2)):
        rig.start(flow, [1, 2, 3], max_tokens=2, priority=priority)

    assert finished(rig.run()) == ["c", "e", "a", "d", "b"]


def test_an_urgent_request_takes_the_slot_of_the_least_urgent() -> None:
    rig = Rig(config=small(max_running=2))
    prompts = {"a": [1, 2, 3], "b": [4, 5, 6], "c": [7, 8, 9]}
    rig.start("a", prompts["a"], priority=1)
    rig.start("b", prompts["b"])
    outcomes = rig.step()

    rig.start("c", prompts["c"], priority=2)
    outcomes += rig.step()
    outcomes += rig.run()

    assert finished(outcomes) == ["a", "c", "b"]
    assert rig.statistics.preemptions == 1
    for flow, prompt in prompts.items():
        assert tokens(outcomes, flow) == rig.runner.continuation(prompt, 8)


def test_equals_wait_for_a_slot() -> None:
    rig = Rig(config=small(max_running=1))
    rig.start("a", [1, 2, 3])
    rig.step()

    rig.start("b", [4, 5, 6])
    rig.step()

    assert (rig.statistics.running, rig.statistics.preemptions) == (1, 0)


def test_an_urgent_request_takes_pages_of_the_less_urgent_while_they_run() -> None:
    rig = Rig(card=fake_card(num_pages=10))
    rig.start("a", range(100, 130), max_tokens=9)
    outcomes = rig.step() + rig.step()

    rig.start("b", range(200, 230), max_tokens=2, priority=1)
    outcomes += rig.run()

    assert finished(outcomes) == ["b", "a"]
    assert rig.statistics.preemptions == 1
    assert tokens(outcomes, "a") == rig.runner.continuation(range(100, 130), 9)
    rig.assert_empty()


def test_when_pages_are_short_the_less_urgent_gives_way_though_it_came_first() -> None:
    rig = Rig(card=fake_card(num_pages=8))
    rig.start("a", range(10), max_tokens=18, priority=-1)
    rig.start("b", range(100, 110), max_tokens=18)

    outcomes = rig.run()

    assert rig.statistics.preemptions > 0
    assert finished(outcomes) == ["b", "a"]
    assert tokens(outcomes, "a") == rig.runner.continuation(range(10), 18)


def test_a_context_that_rests_for_a_less_urgent_flow_gives_way_while_others_run() -> None:
    network = FakeNetwork()
    a, b = Rig(network, "a"), Rig(network, "b", fake_card(num_pages=12))
    prompt = list(range(1, 18))
    command = PrepRecv("b", Tokens(prompt), -1)
    [told] = b.order("f", command, priority=-5)
    grant = told.event.grant  # type: ignore[union-attr]
    a.order("f", RemoteSend("a", Tokens(prompt), grant, 0, -1))
    a.run()
    network.settle()
    b.hear()
    b.start("g", range(100, 112), max_tokens=9)
    outcomes = b.step()

    b.start("h", range(200, 220), max_tokens=1)
    outcomes += b.step() + b.step()

    assert b.statistics.forgone_contexts == 1
    assert finished(outcomes) == ["h"]


def test_a_transfer_has_the_priority_of_its_request() -> None:
    network = FakeNetwork()
    a, b = Rig(network, "a", config=small(max_running=1)), Rig(network, "b")
    for flow, priority in (("f", 0), ("g", 3)):
        prompt = Tokens([*range(8), ord(flow)])
        [told] = b.order(flow, PrepRecv("b", prompt, -1), priority=priority)
        grant = told.event.grant  # type: ignore[union-attr]
        a.order(flow, RemoteSend("a", prompt, grant, 0, -1), priority=priority)

    a.step()
    network.settle()

    assert [told.flow for told in a.hear()] == ["g"]


class Matching(Pages):
    """Counts how often a prompt is looked up."""

    num_matches = 0

    def match(self, tokens: Ids, adapter: str = "") -> list[Node]:
        self.num_matches += 1
        return super().match(tokens, adapter)


class Plain(Sequence):
    """Runs until it is removed."""

    verb, preemptible = "Plain", True

    @property
    def num_matchable(self) -> int:
        return self.context.num_tokens - 1

    def room_at_admission(self, chunk: int) -> int:
        return chunk

    def choice(self) -> None:
        return None


def test_who_finds_no_room_is_not_matched_again_before_a_page_comes_back() -> None:
    pages = Matching(8, 4)
    computed(pages, ids(*range(8))).drop()
    scheduler = Scheduler(EngineConfig("a", 1), pages, Counters())
    holder, waiter = (
        Plain((flow, 1), Context(pages, Rank.of(0, n), ids(*range(n, n + 24)), 24), 0.0)
        for n, flow in ((100, "holder"), (101, "waiter"))
    )
    waiter.context = Context(pages, Rank.of(0, 101), ids(*range(24)), 24)
    scheduler.add(holder)
    scheduler.plan(0.0)
    scheduler.add(waiter)
    pages.num_matches = 0

    for _ in range(5):
        scheduler.plan(0.0)
    assert pages.num_matches == 1

    scheduler.remove(holder)
    holder.context.drop()
    assert [piece.sequence for piece in scheduler.plan(0.0)] == [waiter]
    assert pages.num_matches == 2
