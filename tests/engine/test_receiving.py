"""`PrepRecv` and `Commit`: pages for a peer, nothing published early, nothing reused too soon."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.messages import (
    Commit,
    Committed,
    Matched,
    Prepared,
    PrepRecv,
    Query,
    Refused,
    Release,
    Released,
    Started,
)
from bus.tokens import Tokens
from bus.transfers import Arrived, Fenced
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork

from .rig import Rig, done, events, pair, phases, reason, small, tokens

PROMPT = list(range(1, 19))


def transferred(
    network: FakeNetwork, a: Rig, b: Rig, prompt: list[int] = PROMPT, end: int | None = -1
) -> None:
    """Flow f's context has arrived on ``b``, who has not heard of it yet."""
    grant = b.prepare("f", prompt, end)
    a.order("f", a.send(grant, prompt, end))
    a.run()
    network.settle()
    a.hear()


@pytest.mark.parametrize("end", [None, -1, 10, 8, 1])
@pytest.mark.parametrize("early", [True, False])
def test_a_received_context_gives_the_tokens_of_a_lone_engine(end: int | None, early: bool) -> None:
    """Whether `StartGenerate` comes before the context or after it."""
    network, a, b = pair()
    if early:
        grant = b.prepare("f", PROMPT, end)
        b.start("f", PROMPT)
        assert not b.engine.has_work
        a.order("f", a.send(grant, PROMPT, end))
        a.run()
        network.settle()
        b.hear()
    else:
        transferred(network, a, b, end=end)
        b.hear()
        b.start("f", PROMPT)

    outcomes = b.run()

    assert tokens(outcomes, "f") == b.runner.continuation(PROMPT, 8)
    received = len(PROMPT) if end is None else end % len(PROMPT)
    assert done(outcomes).usage.cached_tokens == min(received, len(PROMPT) - 1)
    a.hear()
    a.assert_empty()
    b.assert_empty()


@pytest.mark.parametrize("length", [16, 17])
def test_a_whole_prompt_received_leaves_only_its_last_token_to_compute(length: int) -> None:
    network, a, b = pair()
    prompt = PROMPT[:length]
    transferred(network, a, b, prompt, end=None)
    b.hear()

    b.start("f", prompt, max_tokens=3)

    assert events(b.step()) == [Started(length - 1)]
    assert b.statistics.prefill_tokens == 1


def test_pages_for_what_is_not_cached_are_reserved_and_granted() -> None:
    _, _, b = pair()
    b.start("warm", PROMPT[:9])
    b.run()

    prepared = b.prepare("f", PROMPT)

    assert prepared.matched == 8
    assert (b.statistics.granted_pages, b.statistics.used_pages) == (3, 2)
    assert b.statistics.receiving == 1


def test_nothing_is_granted_where_everything_is_cached() -> None:
    network, _, b = pair()
    b.start("warm", PROMPT)
    b.run()

    prepared = b.prepare("f", PROMPT, end=16)

    assert prepared == Prepared(b"", 16)
    assert not network.granted
    b.start("f", PROMPT)
    assert tokens(b.run(), "f") == b.runner.continuation(PROMPT, 8)


def test_granted_pages_are_adjacent() -> None:
    network, _, b = pair()

    b.prepare("f", list(range(100)))

    [granted] = network.granted.values()
    assert granted.pages == list(range(granted.pages[0], granted.pages[0] + 25))


def test_too_few_pages_are_refused_as_busy_and_nothing_is_kept() -> None:
    network = FakeNetwork()
    rig = Rig(network, "c", fake_card(num_pages=5))
    rig.prepare("f", PROMPT[:12])

    assert reason(rig.order("g", PrepRecv("c", Tokens(PROMPT)))) == "busy"

    assert rig.statistics.granted_pages == 3
    assert rig.statistics.flows == 1


def test_preparing_evicts_what_is_only_cached() -> None:
    rig = Rig(FakeNetwork(), "c", fake_card(num_pages=5))
    rig.start("old", range(50, 66), max_tokens=1)
    rig.run()

    rig.prepare("f", PROMPT)

    assert rig.statistics.granted_pages == 5


def test_nothing_is_published_before_it_arrived() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    a.run()
    query = Query("b", Tokens(PROMPT))

    before = events(b.order("q", query))
    network.settle()
    b.hear()
    after = events(b.order("q", query))

    assert before == [Matched(0, load=0, free_pages=59)]
    assert after == [Matched(16, load=0, free_pages=59)]


def test_the_page_of_the_last_prompt_token_is_not_shared_before_it_is_computed_again() -> None:
    network, a, b = pair()
    transferred(network, a, b, PROMPT[:16], end=None)
    b.hear()

    [before] = events(b.order("q", Query("b", Tokens(PROMPT))))
    b.start("f", PROMPT[:16], max_tokens=1)
    b.run()
    [after] = events(b.order("q", Query("b", Tokens(PROMPT))))

    assert isinstance(before, Matched)
    assert isinstance(after, Matched)
    assert (before.matched, after.matched) == (12, 16)


@pytest.mark.parametrize("early", [True, False])
def test_a_committed_context_is_cached_in_all_its_full_pages(early: bool) -> None:
    network, a, b = pair()
    transferred(network, a, b, PROMPT[:16], end=None)
    outcomes = b.order("f", Commit("b")) if early else []
    outcomes += b.hear()
    outcomes += [] if early else b.order("f", Commit("b"))

    assert events(outcomes) == [Committed(16)]
    assert phases(outcomes) == ["wait"]
    b.assert_empty()
    assert b.statistics.cached_pages == 4


def test_commit_is_out_of_order_where_nothing_was_received() -> None:
    _, _, b = pair()
    b.start("f", PROMPT)

    assert reason(b.order("f", Commit("b"))) == "out_of_order"


def test_what_was_committed_cannot_be_generated_from_in_the_same_attempt() -> None:
    _, _, b = pair()
    b.prepare("f", PROMPT)
    b.order("f", Commit("b"))

    assert reason(b.start("f", PROMPT)) == "out_of_order"


def test_a_prompt_other_than_the_received_one_is_refused_naming_where_they_part() -> None:
    network, a, b = pair()
    transferred(network, a, b)
    b.hear()

    [event] = events(b.start("f", [*PROMPT[:6], 99, *PROMPT[7:]]))

    assert isinstance(event, Refused)
    assert event.reason == "bad_request"
    assert "index 6" in event.message


def test_a_prompt_that_goes_on_after_the_received_one_is_taken() -> None:
    """Live migration: the context is sent while the answer goes on."""
    network, a, b = pair()
    transferred(network, a, b, PROMPT, end=None)
    b.hear()

    longer = [*PROMPT, 7, 8, 9]
    b.start("f", longer)

    outcomes = b.run()
    assert events(outcomes)[0] == Started(18)
    assert tokens(outcomes, "f") == b.runner.continuation(longer, 8)


@pytest.mark.parametrize("what", ["StartGenerate", "Commit"])
def test_a_context_that_does_not_arrive_refuses_what_waits_for_it(what: str) -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    b.order("f", Commit("b") if what == "Commit" else b.generate(PROMPT))
    [granted] = network.granted.values()
    network.expire(granted)
    network.settle()

    outcomes = b.hear()

    expected = "the context did not arrive: the lease ran out"
    assert events(outcomes) == [Refused(what, "transfer_failed", expected)]
    assert phases(outcomes) == (["wait"] if what == "Commit" else [])
    b.assert_empty()


def test_a_context_that_did_not_arrive_is_computed_here_when_nobody_had_waited_for_it() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    network.fence(next(iter(network.granted.values())))
    assert b.hear() == []
    b.assert_empty()

    b.start("f", PROMPT)

    assert tokens(b.run(), "f") == b.runner.continuation(PROMPT, 8)


@pytest.mark.parametrize("waiting", [True, False])
def test_releasing_waits_for_the_fence(waiting: bool) -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    if waiting:
        b.start("f", PROMPT)

    assert b.order("f", Release("b")) == []
    assert b.order("f", Release("b")) == []
    assert b.statistics.granted_pages == 5

    network.settle()
    assert events(b.hear()) == [Released()]
    b.assert_empty()


def test_releasing_is_over_too_when_the_context_arrived_meanwhile() -> None:
    network, a, b = pair()
    transferred(network, a, b)

    assert b.order("f", Release("b")) == []
    assert events(b.hear()) == [Released()]

    b.assert_empty()
    assert b.statistics.cached_pages == 0, "nobody vouches for it: it is not kept"


def test_releasing_an_arrived_context_needs_no_fence() -> None:
    network, a, b = pair()
    transferred(network, a, b)
    b.hear()

    assert events(b.order("f", Release("b"))) == [Released()]
    b.assert_empty()


def test_an_older_attempt_keeps_its_pages_until_its_fence_and_says_nothing() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)

    b.order("f", b.generate(PROMPT), attempt=2)
    outcomes = b.run()

    assert tokens(outcomes, "f") == b.runner.continuation(PROMPT, 8)
    assert b.statistics.granted_pages == 5
    network.settle()
    assert b.hear() == []
    b.assert_empty()


def test_the_release_of_an_older_attempt_that_lingers_is_told_after_its_fence() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    b.order("f", b.generate(PROMPT), attempt=2)

    assert b.order("f", Release("b"), attempt=1) == []
    network.settle()

    [told] = b.hear()
    assert (told.attempt, events([told])) == (1, [Released()])


def test_what_comes_of_an_attempt_after_a_refused_order_of_the_next_is_too_late() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    assert reason(b.order("f", Commit("b"), attempt=2)) == "no_such_flow"

    assert reason(b.order("f", b.generate(PROMPT), attempt=1)) == "stale_attempt"
    network.settle()
    b.hear()
    assert reason(b.order("f", b.generate(PROMPT), attempt=1)) == "stale_attempt"
    b.assert_empty()

    b.order("f", b.generate(PROMPT), attempt=2)
    assert tokens(b.run(), "f") == b.runner.continuation(PROMPT, 8)


def test_a_flow_that_lingers_is_not_begun_again_though_nobody_remembers_it() -> None:
    network = FakeNetwork()
    b = Rig(network, "b", config=small("b", remembered_flows=1))
    b.prepare("f", PROMPT)
    b.order("f", Release("b"))
    b.order("f", Commit("b"), attempt=2)
    b.order("g", Release("b"))

    assert reason(b.order("f", b.generate(PROMPT), attempt=1)) == "stale_attempt"

    network.settle()
    assert events(b.hear()) == [Released()]
    b.assert_empty()


def test_without_a_transport_only_what_is_cached_can_be_prepared() -> None:
    rig = Rig()
    assert reason(rig.order("f", PrepRecv("a", Tokens(PROMPT)))) == "not_supported"
    rig.start("g", PROMPT)
    rig.run()

    assert rig.prepare("h", PROMPT, end=16) == Prepared(b"", 16)


def test_events_of_transfers_that_nobody_knows_are_ignored() -> None:
    _, _, b = pair()

    assert b.event(Arrived("f", 1, 100)) == []
    assert b.event(Fenced("f", 1, "late")) == []
    b.assert_empty()


def test_a_flow_that_is_being_released_begins_nothing_more() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    b.order("f", Release("b"))

    assert reason(b.start("f", PROMPT)) == "stale_attempt"

    network.settle()
    assert events(b.hear()) == [Released()]
    b.assert_empty()


def test_a_context_for_an_answer_that_was_over_is_not_waited_for() -> None:
    network, _, b = pair()
    answer = b.runner.continuation(PROMPT, 2)
    prompt = [*PROMPT, *answer]
    b.prepare("f", prompt)

    outcomes = b.order("f", replace(b.generate(prompt, max_tokens=2), offset=2))

    assert done(outcomes).reason == "length"
    network.settle()
    assert b.hear() == []
    b.assert_empty()


@pytest.mark.parametrize("before", ["StartGenerate", "RemoteSend"])
def test_preparing_after_another_command_of_its_attempt_is_out_of_order(before: str) -> None:
    _, a, b = pair()
    if before == "StartGenerate":
        b.start("f", PROMPT)
    else:
        b.order("f", b.send(a.prepare("f", PROMPT), PROMPT))

    assert reason(b.order("f", PrepRecv("b", Tokens(PROMPT)))) == "out_of_order"


def test_a_context_that_was_wholly_cached_gives_way_like_a_received_one() -> None:
    b = Rig(FakeNetwork(), "b", fake_card(num_pages=8))
    b.start("warm", range(17), max_tokens=1)
    b.run()
    assert b.prepare("f", range(17), end=16) == Prepared(b"", 16)

    b.start("g", range(100, 129), max_tokens=1)

    assert len(tokens(b.run(), "g")) == 1
    assert b.statistics.forgone_contexts == 1
