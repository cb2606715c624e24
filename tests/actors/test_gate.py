"""Flows wait for room, in order, and no engine is ever asked for more than it has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from actors.effects import Effect, Publish, Send
from actors.inputs import Asked, RouterInput, Ticked, Withdrawn
from actors.routing import RouterConfig, RouterCore
from bus.codec import decode_public
from bus.fleet import Role
from bus.messages import (
    Answer,
    AnyCommand,
    Beat,
    CacheChanged,
    Finished,
    Mailbox,
    Refused,
    Release,
    Report,
    Request,
    Sampling,
    Started,
    StartGenerate,
    Usage,
)
from bus.prefixes import chain, pack
from bus.public import Done, Rejected, Reply, Welcome
from bus.subjects import Subjects
from bus.tokens import Tokens
from orchestrations.registry import strategies

PAGE = 4


class Router:
    """A router core whose engines are Struct and arithmetic."""

    def __init__(self, default: str = "data_parallel", max_waiting: int = 100) -> None:
        self.core = RouterCore(
            RouterConfig("r0", default=default, max_waiting=max_waiting), strategies()
        )
        self.now = 100.0

    def beat(
        self, name: str, role: Role = "both", *, slots: int = 2, pages: int = 100, load: int = 0
    ) -> list[Effect]:
        return self.hear(Beat(name, 1, "m", role, load, pages, pages, PAGE, 999, "c", slots=slots))

    def hear(self, event: RouterInput) -> list[Effect]:
        effects = self.core.handle(event, self.now)
        self.core.check_integrity()
        return effects

    def ask(
        self, flow: str, size: int = 8, answer: int = 8, user: str = "", priority: int = 0,
        timeout_s: float | None = None,
    ) -> list[Effect]:  # fmt: skip
        sampling = Sampling(max_tokens=answer)
        request = Request(Tokens(range(size)), sampling, Mailbox("inbox"), priority)
        return self.hear(Asked(flow, "m", request, timeout_s=timeout_s, user=user))

    def answer(self, flow: str, engine: str, answer: Answer) -> list[Effect]:
        attempt = self.core.flows[flow].attempt
        return self.hear(Report(flow, attempt, engine, 1, answer))  # type: ignore[arg-type]

    def finish(self, flow: str, engine: str = "e0") -> list[Effect]:
        return self.answer(flow, engine, Finished("stop", Usage()))


def ordered(effects: Sequence[Effect]) -> list[tuple[str, AnyCommand]]:
    return [(e.order.flow, e.order.command) for e in effects if isinstance(e, Send)]


def begun(effects: Sequence[Effect]) -> list[str]:
    return [flow for flow, command in ordered(effects) if isinstance(command, StartGenerate)]


def said(effects: Sequence[Effect]) -> list[Reply]:
    return [
        decode_public(e.payload, Reply)
        for e in effects
        if isinstance(e, Publish) and e.subject == "inbox"
    ]


@pytest.fixture
def router() -> Router:
    router = Router()
    router.beat("e0")
    return router


# --- waiting ------------------------------------------------------------------------------------


def test_who_finds_no_room_is_welcomed_and_waits(router: Router) -> None:
    router.ask("a")
    router.ask("b")

    effects = router.ask("c")

    assert said(effects) == [Welcome("c", 8)]
    assert ordered(effects) == []
    assert router.core.statistics().waiting == {"m": 1}


def test_how_long_a_newcomer_would_wait_is_told_by_model(router: Router) -> None:
    for flow in "abcd":
        router.ask(flow)
    assert router.core.expected_waits_s(router.now) == {"m": 0.0}  # no pace is known yet

    for flow in "ab":
        router.now += 2.0
        router.finish(flow)
    for flow in "ef":
        router.ask(flow)

    assert router.core.expected_waits_s(router.now) == {"m": 4.0}  # one is next, then he


def test_the_next_one_begins_when_one_ends(router: Router) -> None:
    for flow in "abc":
        router.ask(flow)

    effects = router.finish("a")

    assert begun(effects) == ["c"]
    assert router.core.statistics().waiting == {"m": 0}


def test_nobody_passes_those_who_wait(router: Router) -> None:
    for flow in "abcd":
        router.ask(flow)

    assert begun(router.finish("a")) == ["c"]
    assert begun(router.finish("b")) == ["d"]


def test_the_more_urgent_goes_first(router: Router) -> None:
    for flow, priority in (("a", 0), ("b", 0), ("c", 0), ("d", 5)):
        router.ask(flow, priority=priority)

    assert begun(router.finish("a")) == ["d"]


def test_users_take_turns(router: Router) -> None:
    router.ask("x", user="ann")
    router.ask("y", user="ann")
    for flow in ("a1", "a2"):
        router.ask(flow, user="ann")
    router.ask("b1", user="bob")

    assert begun(router.finish("x")) == ["b1"]
    assert begun(router.finish("y")) == ["a1"]


def test_an_engine_that_joins_takes_those_who_wait(router: Router) -> None:
    for flow in "abcd":
        router.ask(flow)

    effects = router.beat("e1")

    assert begun(effects) == ["c", "d"]
    assert {c.engine for _, c in ordered(effects)} == {"e1"}


def test_pages_are_room_as_well(router: Router) -> None:
    router.beat("e0", slots=100, pages=8)
    router.ask("a", size=8, answer=8)
    router.ask("b", size=8, answer=8)

    assert begun(router.ask("c", size=1, answer=1)) == []
    assert begun(router.finish("a")) == ["c"]


def test_a_large_one_is_not_passed_by_small_ones_for_ever(router: Router) -> None:
    router.beat("e0", slots=100, pages=8)
    router.ask("a", size=8, answer=8)
    router.ask("large", size=20, answer=8)

    assert begun(router.ask("small", size=1, answer=1)) == []
    assert begun(router.finish("a")) == ["large", "small"]


def test_one_that_needs_more_than_there_is_gets_all_there_is(router: Router) -> None:
    router.beat("e0", slots=100, pages=8)

    assert begun(router.ask("a", size=8, answer=10_000)) == ["a"]
    assert begun(router.ask("b", size=1, answer=1)) == []


def test_a_prefiller_without_room_is_waited_for_too() -> None:
    router = Router("disaggregated")
    router.beat("p0", "prefill", slots=1)
    router.beat("d0", "decode", slots=9)

    router.ask("a", size=400)
    effects = router.ask("b", size=400)

    assert ordered(effects) == [] or all(c.engine == "d0" for _, c in ordered(effects))
    assert router.core.standing.fleet("m", {}).engine("p0").load == 1


def test_an_answer_that_waits_can_be_cancelled(router: Router) -> None:
    for flow in "abc":
        router.ask(flow)

    effects = router.hear(Withdrawn("c"))

    [done] = said(effects)
    assert isinstance(done, Done)
    assert done.reason == "cancelled"
    assert ordered(effects) == []
    assert "c" not in router.core.flows


def test_one_whose_time_is_over_while_it_waits_is_told_so(router: Router) -> None:
    for flow in "ab":
        router.ask(flow)
    router.ask("c", timeout_s=5.0)
    router.now += 1.0
    router.beat("e0")
    assert said(router.hear(Ticked())) == []
    router.now += 4.5
    router.beat("e0")

    [done] = said(router.hear(Ticked()))

    assert isinstance(done, Done)
    assert "before an engine had room" in done.message


def test_a_wait_is_no_stall(router: Router) -> None:
    for flow in "abc":
        router.ask(flow)
    for _ in range(5):
        router.now += 100.0
        router.beat("e0")
        router.core.flows["a"].active_s = router.core.flows["b"].active_s = router.now
        router.hear(Ticked())

    assert set(router.core.flows) == {"a", "b", "c"}


# --- refusals -----------------------------------------------------------------------------------


def test_a_deadline_that_cannot_be_met_is_refused_with_the_expected_wait(router: Router) -> None:
    for number in range(12):
        router.ask(str(number))
    for number in range(5):
        router.now += 2.0
        router.beat("e0", load=2)
        router.finish(str(number))

    effects = router.ask("late", timeout_s=1.5)

    [rejected] = said(effects)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "busy"
    assert "the expected wait is 2.0 s" in rejected.message
    assert "late" not in router.core.flows


def test_a_queue_has_an_end() -> None:
    router = Router(max_waiting=4)
    router.beat("e0", slots=1)
    said_first = [said(router.ask(str(n)))[0] for n in range(4)]

    assert [type(s) for s in said_first] == [Welcome, Welcome, Welcome, Rejected]
    assert isinstance(said(router.ask("another", user="ann"))[0], Welcome)


def test_an_engine_that_has_no_room_after_all_costs_a_wait_and_no_error(router: Router) -> None:
    router.ask("a")

    effects = router.answer("a", "e0", Refused("StartGenerate", "busy", "no pages"))

    assert ordered(effects) == [("a", Release("e0"))]
    assert said(effects) == []
    assert router.core.statistics().waiting == {"m": 1}
    [again] = ordered(router.beat("e0"))
    assert isinstance(again[1], StartGenerate)
    assert router.core.flows["a"].attempt == 2
    assert router.finish("a") != []
    assert router.core.statistics().outcomes == {"finished": 1}


def test_an_engine_that_never_has_room_is_given_up(router: Router) -> None:
    router.ask("a")

    for _ in range(100):
        if "a" not in router.core.flows:
            break
        router.answer("a", "e0", Refused("StartGenerate", "busy", "no pages"))
        router.beat("e0")

    assert router.core.statistics().outcomes == {"refused": 1}


# --- what strategies are told -------------------------------------------------------------------


def test_a_strategy_hears_what_is_cached_where() -> None:
    router = Router("disaggregated")
    router.beat("e0")
    router.beat("e1")
    hashes = chain(Tokens(range(40)), PAGE)
    router.hear(CacheChanged("e1", 1, 1, pack(hashes)))
    router.ask("a", size=41)

    [step] = router.core.flows["a"].steps

    assert [e.cached for e in step.event.fleet.engines] == [0, 40]  # type: ignore[union-attr]


def test_what_was_sent_counts_as_cached_before_the_engine_says_so(router: Router) -> None:
    router.beat("e0", slots=9)
    router.ask("a", size=41)

    router.ask("b", size=41)

    [step] = router.core.flows["b"].steps
    assert step.event.fleet.engine("e0").cached == 40  # type: ignore[union-attr]
    assert step.event.fleet.engine("e0").waiting_tokens == 41  # type: ignore[union-attr]


def test_a_prompt_is_waited_for_until_its_first_token_is_reported(router: Router) -> None:
    router.beat("e0", slots=9)
    router.ask("a", size=41)
    router.answer("a", "e0", Started(0))

    router.ask("b", size=20)

    [step] = router.core.flows["b"].steps
    seen = step.event.fleet.engine("e0")  # type: ignore[union-attr]
    assert (seen.waiting_tokens, seen.decoding) == (0, 1)


def test_a_gap_in_what_an_engine_tells_asks_it_for_everything(router: Router) -> None:
    effects = router.hear(CacheChanged("e0", 1, 5, pack((1,))))

    assert effects == [Publish(Subjects().cache_snapshot("e0"), b"")]


def test_a_cache_that_cannot_be_is_survived(router: Router) -> None:
    assert router.hear(CacheChanged("e0", 1, 1, b"half")) == []
