"""The router's core, driven by hand: commands, answers, losses, and what the user hears."""

from __future__ import annotations

from typing import Any

import pytest

from actors.effects import Effect, Publish, Record, Send
from actors.roster import LOST_AFTER_S
from actors.routing import (
    Asked,
    RouterConfig,
    RouterCore,
    RouterInput,
    Ticked,
    Undelivered,
    Wished,
    Withdrawn,
)
from bus.codec import decode, decode_public, encode
from bus.fleet import Role
from bus.messages import (
    Answer,
    AnyCommand,
    Beat,
    Committed,
    Event,
    Finished,
    Followed,
    Mailbox,
    Prepared,
    PrepRecv,
    Progress,
    Refused,
    Release,
    RemoteSend,
    Report,
    Request,
    Sampling,
    Sent,
    Started,
    StartGenerate,
    Usage,
)
from bus.public import Done, Rejected, Reply, Welcome
from bus.tokens import Tokens
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import State, Step
from orchestrations.migrate_context import migrate_context
from orchestrations.migrate_running import migrate_running
from orchestrations.resilient import resilient

FLOW = "f" * 32
PROMPT = Tokens(range(40))


def faulty(state: State, event: Event) -> Step:
    raise ZeroDivisionError("a user's mistake")


class Router:
    """A router core with two engines and a hand on the clock."""

    def __init__(self) -> None:
        config = RouterConfig("r0", stall_s=60.0)
        strategies: dict[str, Any] = {
            "data_parallel": data_parallel,
            "disaggregated": disaggregated,
            "faulty": faulty,
            "migrate_context": migrate_context,
            "migrate_running": migrate_running,
            "resilient": resilient,
        }
        self.core = RouterCore(config, strategies)
        self.now = 100.0
        self.beat("p0", "prefill")
        self.beat("d0", "decode")

    def beat(self, engine: str, role: Role = "both", **more: Any) -> list[Effect]:
        given = {"epoch": 1, "load": 0, **more}
        return self.hear(
            Beat(
                engine,
                given.pop("epoch"),
                "m",
                role,
                given.pop("load"),
                9,
                9,
                16,
                999,
                "c",
                **given,
            )
        )

    def hear(self, event: RouterInput) -> list[Effect]:
        return self.core.handle(event, self.now)

    def ask(self, orchestration: str | None = None, n: int = 1, **more: Any) -> list[Effect]:
        request = Request(PROMPT, Sampling(n=n), Mailbox("inbox"))
        return self.hear(Asked(FLOW, "m", request, orchestration, tag="t", **more))

    def answer(self, engine: str, answer: Answer, attempt: int = 1) -> list[Effect]:
        return self.hear(Report(FLOW, attempt, engine, 1, answer))  # type: ignore[arg-type]


def commands(effects: list[Effect]) -> list[AnyCommand]:
    return [e.order.command for e in effects if isinstance(e, Send)]


def said(effects: list[Effect]) -> list[Reply]:
    return [decode_public(e.payload, Reply) for e in effects if isinstance(e, Publish)]


@pytest.fixture
def router() -> Router:
    return Router()


def test_a_request_is_welcomed_before_anything_is_ordered(router: Router) -> None:
    effects = router.ask()

    assert said(effects[:1]) == [Welcome(FLOW, 40, "t")]
    assert commands(effects) == [PrepRecv("d0", PROMPT, end=39)]


def test_a_disaggregated_flow_runs_from_prepare_to_the_end(router: Router) -> None:
    router.ask()

    sending = router.answer("d0", Prepared(b"grant", 16))
    router.answer("p0", Sent(10, 0.1, "shm"))
    router.answer("d0", Started(39))
    ended = router.answer("d0", Finished("stop", Usage(completion_tokens=3)))

    assert commands(sending) == [
        RemoteSend("p0", PROMPT, b"grant", 16, 39),
        StartGenerate("d0", PROMPT, 39, Sampling(), Mailbox("inbox"), offset=0),
    ]
    assert commands(ended) == []
    assert said(ended) == []
    assert router.core.flows == {}
    assert router.core.statistics().outcomes == {"finished": 1}


def test_orders_carry_epoch_attempt_and_trace_context(router: Router) -> None:
    [_, send] = router.ask()

    assert isinstance(send, Send)
    assert (send.order.flow, send.order.attempt, send.order.router) == (FLOW, 1, "r0")
    assert send.order.epoch == 1
    assert send.headers["traceparent"].split("-")[1] == FLOW


def test_every_order_of_a_flow_has_its_priority_and_adapter(router: Router) -> None:
    router.beat("p0", "prefill", adapters=("legal",))
    router.beat("d0", "decode", adapters=("legal",))
    request = Request(PROMPT, Sampling(), Mailbox("inbox"), priority=5, adapter="legal")
    asked = router.hear(Asked(FLOW, "m", request))
    answered = router.answer("d0", Prepared(b"grant", 16))

    orders = [e.order for e in (*asked, *answered) if isinstance(e, Send)]

    assert [type(o.command) for o in orders] == [PrepRecv, RemoteSend, StartGenerate]
    assert {o.priority for o in orders} == {5}
    assert {o.adapter for o in orders} == {"legal"}


def test_a_duplicate_answer_changes_nothing(router: Router) -> None:
    router.ask()
    router.answer("d0", Prepared(b"grant", 16))

    again = router.answer("d0", Prepared(b"grant", 16))

    assert again == []
    assert router.core.statistics().late == 1


@pytest.mark.parametrize("engine", ["p0", "unknown"])
def test_an_answer_from_an_engine_that_was_not_asked_changes_nothing(
    router: Router, engine: str
) -> None:
    router.ask()

    assert router.answer(engine, Prepared(b"grant", 16)) == []


def test_an_answer_of_another_attempt_changes_nothing(router: Router) -> None:
    router.ask()

    assert router.answer("d0", Prepared(b"grant", 16), attempt=2) == []


def test_a_cancelled_flow_releases_both_engines_and_tells_the_user(router: Router) -> None:
    router.ask()
    router.answer("d0", Prepared(b"grant", 0))

    effects = router.hear(Withdrawn(FLOW))

    assert commands(effects) == [Release("p0"), Release("d0")]
    [done] = said(effects)
    assert isinstance(done, Done)
    assert (done.reason, done.offset) == ("cancelled", 0)


def test_cancelling_an_unknown_flow_does_nothing(router: Router) -> None:
    assert router.hear(Withdrawn("nobody")) == []


def test_the_loss_of_an_engine_ends_its_flows_in_words(router: Router) -> None:
    router.ask()
    router.answer("d0", Prepared(b"grant", 0))

    effects = router.beat("p0", "prefill", epoch=2)

    assert commands(effects) == [Release("p0"), Release("d0")]
    [done] = said(effects)
    assert isinstance(done, Done)
    assert done.reason == "error"
    assert "p0" in done.message


def test_an_engine_that_was_taken_for_lost_is_told_to_let_go_and_not_waited_for(
    router: Router,
) -> None:
    router.ask("data_parallel")
    router.now += LOST_AFTER_S + 0.1

    effects = router.hear(Ticked())

    [send] = [e for e in effects if isinstance(e, Send)]
    assert send.order.command == Release("d0")
    assert router.hear(Undelivered(send.order)) == []


def test_the_loss_of_a_prefiller_that_has_sent_is_not_noticed(router: Router) -> None:
    router.ask()
    router.answer("d0", Prepared(b"grant", 0))
    router.answer("p0", Sent(10, 0.1, "shm"))

    effects = router.beat("p0", leaving=True)

    assert effects == []
    assert list(router.core.flows) == [FLOW]


def test_an_engine_without_listeners_is_lost_at_once(router: Router) -> None:
    [_, send] = router.ask()
    assert isinstance(send, Send)

    effects = router.hear(Undelivered(send.order))

    assert isinstance(said(effects)[0], Done)
    assert router.core.roster.epoch("d0") == 0


def test_what_did_not_reach_an_engine_that_is_back_since_says_nothing_of_it(
    router: Router,
) -> None:
    [_, send] = router.ask()
    assert isinstance(send, Send)
    farewell = next(e for e in router.beat("d0", "decode", epoch=2) if isinstance(e, Send))

    assert router.hear(Undelivered(send.order)) == []
    assert router.hear(Undelivered(farewell.order)) == []
    assert router.core.roster.epoch("d0") == 2


def test_an_order_that_was_turned_down_at_the_door_is_a_refusal(router: Router) -> None:
    [_, send] = router.ask()
    assert isinstance(send, Send)

    effects = router.hear(Undelivered(send.order, Refused("PrepRecv", "too_large", "4 GB")))

    [done] = said(effects)
    assert isinstance(done, Done)
    assert "too_large" in done.message
    assert router.core.roster.epoch("d0") == 1
    assert router.core.statistics().refusals == {"too_large": 1}


def test_silent_engines_are_lost(router: Router) -> None:
    router.ask()
    router.now += LOST_AFTER_S + 0.1

    effects = router.hear(Ticked())

    assert isinstance(said(effects)[0], Done)
    assert router.core.statistics().engines == 0


def test_a_router_that_did_not_listen_blames_nobody_for_silence(router: Router) -> None:
    router.ask()
    router.hear(Ticked())
    router.now += LOST_AFTER_S + 5  # stopped, and the beats of that time are still to be read

    assert router.hear(Ticked()) == []
    assert router.core.statistics().engines == 2

    for _ in range(8):
        router.now += 0.25
        effects = router.hear(Ticked())
        if effects:
            break
    assert router.core.statistics().engines == 0


def test_a_flow_past_its_deadline_is_timed_out(router: Router) -> None:
    router.ask(timeout_s=0.5)
    router.now += 0.6

    effects = router.hear(Ticked())

    assert commands(effects) == [Release("p0"), Release("d0")]
    assert router.core.statistics().outcomes == {"timed_out": 1}


def test_tokens_keep_a_flow_from_stalling(router: Router) -> None:
    router.ask("data_parallel")
    for _ in range(3):
        router.now += 40
        router.beat("p0")
        router.beat("d0")
        router.hear((Followed(FLOW, 0, Tokens([1])),))
        router.hear(Ticked())

    assert list(router.core.flows) == [FLOW]


def test_a_flow_that_nothing_happens_to_is_timed_out(router: Router) -> None:
    router.ask("data_parallel")
    router.now += 61
    router.beat("p0")
    router.beat("d0")

    effects = router.hear(Ticked())

    assert isinstance(said(effects)[0], Done)


def test_the_routers_copy_of_the_answer_has_every_token_once(router: Router) -> None:
    router.ask("data_parallel")

    for offset, tokens in ((0, [7, 8]), (1, [8, 9]), (1, [8])):
        progress = (Followed(FLOW, offset, Tokens(tokens)),)
        router.hear(decode(encode(progress), Progress))

    assert router.core.flows[FLOW].answers == {0: [7, 8, 9]}


def test_of_several_answers_the_router_has_a_copy_of_each(router: Router) -> None:
    router.ask("data_parallel")

    router.hear((Followed(FLOW, 0, Tokens([7])), Followed(FLOW, 0, Tokens([8, 9]), choice=1)))

    assert router.core.flows[FLOW].answers == {0: [7], 1: [8, 9]}
    [done] = said(router.hear(Withdrawn(FLOW)))
    assert isinstance(done, Done)
    assert (done.offset, done.usage.completion_tokens) == (3, 3)


def test_the_users_last_word_says_how_many_tokens_there_were(router: Router) -> None:
    router.ask("data_parallel")
    router.hear((Followed(FLOW, 0, Tokens([7, 8])),))

    [done] = said(router.hear(Withdrawn(FLOW)))

    assert isinstance(done, Done)
    assert (done.offset, done.usage.prompt_tokens, done.usage.completion_tokens) == (2, 40, 2)


def test_a_request_without_engines_is_refused_in_words() -> None:
    router = Router()
    router.beat("p0", leaving=True)
    router.beat("d0", leaving=True)

    effects = router.ask()

    [rejected] = said(effects)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == "no_engine"
    assert rejected.tag == "t"
    assert router.core.flows == {}


def test_a_faulty_strategy_ends_its_own_flow_and_nothing_else(router: Router) -> None:
    router.ask("data_parallel")
    request = Request(PROMPT, Sampling(), Mailbox("other"))

    effects = router.hear(Asked("e" * 32, "m", request, "faulty"))

    [rejected] = said(effects)
    assert isinstance(rejected, Rejected)
    assert "a user's mistake" in rejected.message
    assert list(router.core.flows) == [FLOW]


def test_a_busy_engine_is_passed_over_before_its_next_beat(router: Router) -> None:
    first = router.ask("data_parallel")
    request = Request(PROMPT, Sampling(), Mailbox("other"))

    second = router.hear(Asked("e" * 32, "m", request, "data_parallel"))

    assert {c.engine for c in commands(first) + commands(second)} == {"d0", "p0"}


def test_the_whole_flow_is_one_trace(router: Router) -> None:
    router.ask()
    router.answer("d0", Prepared(b"grant", 0))
    router.now += 0.5
    router.answer("p0", Sent(10, 0.1, "shm"))
    router.now += 0.5
    effects = router.answer("d0", Finished("stop", Usage()))

    [record] = [e for e in effects if isinstance(e, Record)]
    assert {span.context.trace_id for span in record.spans} == {FLOW}
    assert {span.name for span in record.spans} >= {
        "microserve.request", "Preparing", "Sending", "Generating",
        "send PrepRecv", "send RemoteSend", "send StartGenerate",
    }  # fmt: skip


def test_an_operators_wish_reaches_the_strategy_with_the_answer_so_far(router: Router) -> None:
    router.beat("d1", "decode", load=5)
    router.ask("migrate_running")
    router.answer("d0", Prepared(b"", 39))
    router.hear((Followed(FLOW, 0, Tokens((7, 8, 9))),))

    effects = router.hear(Wished(FLOW, "d1"))

    assert commands(effects) == [PrepRecv("d1", PROMPT + Tokens([7, 8, 9]), end=42)]


def test_a_wish_for_an_unknown_flow_or_engine_changes_nothing(router: Router) -> None:
    router.ask("migrate_running")

    assert router.hear(Wished("e" * 32, "d0")) == []
    assert router.hear(Wished(FLOW, "nobody")) == []


def test_a_context_that_is_kept_is_told_by_the_router(router: Router) -> None:
    request = Request(PROMPT, Sampling(max_tokens=0), Mailbox("inbox"), engine="d0")
    router.hear(Asked(FLOW, "m", request, "migrate_context"))
    router.answer("d0", Prepared(b"grant", 0))
    router.answer("p0", Sent(10, 0.1, "shm"))

    effects = router.answer("d0", Committed(32))

    assert said(effects) == [Done(FLOW, 0, "length", Usage(prompt_tokens=40))]
    assert router.core.statistics().outcomes == {"kept": 1}


def test_what_engines_are_going_to_be_told_counts_while_pages_are_reserved(router: Router) -> None:
    router.ask()

    fleet = router.core.standing.fleet("m", {})
    seen = {e.name: (e.waiting_tokens, e.decoding, e.prefills_for_others) for e in fleet.engines}
    assert seen == {"p0": (39, 0, True), "d0": (1, 1, False)}

    router.answer("d0", Prepared(b"grant", 0))
    assert router.core.standing.fleet("m", {}) == fleet
