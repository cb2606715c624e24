"""Which orders are taken, which are repeats, and which come too late."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.messages import (
    AnyCommand,
    Commit,
    Matched,
    Order,
    PrepRecv,
    Query,
    Refused,
    Release,
    Released,
    RemoteSend,
    Sampling,
    StartGenerate,
    Suspend,
)
from bus.tokens import Tokens
from engine.config import EngineConfig
from engine.fake import fake_card

from .rig import BOX, Rig, events, pair, reason, small, tokens

PROMPT = range(1, 11)


def test_an_order_for_another_incarnation_is_refused() -> None:
    rig = Rig()

    refused = rig.order("f", rig.generate(PROMPT), epoch=6)
    taken = rig.order("g", rig.generate(PROMPT), epoch=7)

    assert reason(refused) == "stale_epoch"
    assert taken == []
    assert rig.statistics.flows == 1


def test_a_repeated_order_is_ignored_while_it_is_carried_out() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=3)

    assert rig.start("f", PROMPT, max_tokens=3) == []

    assert tokens(rig.run(), "f") == rig.runner.continuation(PROMPT, 3)


def test_a_repeat_after_the_end_never_starts_again() -> None:
    rig = Rig()
    rig.start("f", PROMPT)
    rig.run()

    assert reason(rig.start("f", PROMPT)) == "stale_attempt"
    rig.assert_empty()


def test_a_lower_attempt_is_refused_during_the_flow_and_after() -> None:
    rig = Rig()
    rig.order("f", rig.generate(PROMPT), attempt=3)

    during = rig.order("f", rig.generate(PROMPT), attempt=2)
    rig.run()
    after = rig.order("f", rig.generate(PROMPT), attempt=2)

    assert (reason(during), reason(after)) == ("stale_attempt", "stale_attempt")


def test_a_higher_attempt_replaces_the_older_in_silence() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=50)
    rig.step()

    rig.order("f", rig.generate(PROMPT, max_tokens=4), attempt=2)

    outcomes = rig.run()
    assert {outcome.attempt for outcome in outcomes} == {2}
    assert tokens(outcomes, "f") == rig.runner.continuation(PROMPT, 4)
    rig.assert_empty()


def test_another_command_of_the_same_attempt_may_follow_one_that_ended() -> None:
    """A sender may become the one that generates, where the receiver would not."""
    _, a, b = pair()
    grant = b.prepare("f", PROMPT)
    [broken] = a.order("f", replace(a.send(grant, PROMPT), grant=b"nonsense"))
    assert isinstance(events([broken])[0], Refused)

    a.start("f", PROMPT, max_tokens=2)

    assert tokens(a.run(), "f") == a.runner.continuation(PROMPT, 2)


def test_a_refused_start_needs_a_higher_attempt_to_be_tried_again() -> None:
    rig = Rig()
    assert reason(rig.order("f", rig.generate(PROMPT, begin=11))) == "bad_range"

    assert reason(rig.start("f", PROMPT)) == "stale_attempt"
    assert rig.order("f", rig.generate(PROMPT), attempt=2) == []


def test_a_refused_start_is_refused_again_while_the_flow_is_here() -> None:
    network, _, b = pair()
    b.prepare("f", PROMPT)
    b.order("f", b.generate(PROMPT, begin=11))

    assert reason(b.start("f", PROMPT)) == "stale_attempt"
    assert len(network.granted) == 1


def test_nothing_starts_after_a_release_that_overtook_it() -> None:
    rig = Rig()

    assert events(rig.order("f", Release("a"))) == [Released()]

    assert reason(rig.start("f", PROMPT)) == "stale_attempt"
    assert events(rig.order("f", Release("a"))) == [Released()]


def test_an_engine_knows_which_orders_are_not_answered_again() -> None:
    _, _, b = pair()

    def is_repeat(command: AnyCommand, attempt: int = 1, epoch: int = 0) -> bool:
        return b.engine.is_repeat(Order("f", attempt, "router", command, epoch))

    prepare = PrepRecv("b", Tokens(PROMPT), -1)
    assert not is_repeat(prepare)
    b.prepare("f", PROMPT)

    assert is_repeat(prepare)
    assert not is_repeat(prepare, epoch=6), "it is refused: an incarnation that is gone was meant"
    assert not is_repeat(prepare, attempt=2)
    assert not is_repeat(b.generate(PROMPT))
    b.order("f", Release("b"))
    assert is_repeat(prepare)
    assert not is_repeat(b.generate(PROMPT)), "it is refused: the flow was released"


def test_the_memory_of_ended_flows_is_bounded() -> None:
    rig = Rig(config=small(remembered_flows=2))
    for flow in ("f", "g", "h"):
        rig.order(flow, Release("a"))

    assert reason(rig.start("h", PROMPT)) == "stale_attempt"
    assert rig.start("f", PROMPT) == []


@pytest.mark.parametrize("command", [Commit("a"), Suspend("a")])
def test_a_command_for_an_unknown_flow_is_refused(command: Commit | Suspend) -> None:
    rig = Rig()

    assert reason(rig.order("f", command)) == "no_such_flow"
    assert rig.start("f", PROMPT) == []


def test_a_query_tells_what_is_cached_and_changes_nothing() -> None:
    rig = Rig()
    rig.start("f", PROMPT)
    rig.run()
    before = rig.statistics

    outcomes = [rig.order("f", Query("a", Tokens([*range(1, 10), 99]))) for _ in range(2)]

    matched = Matched(8, load=0, free_pages=64)
    assert [events(outcome) for outcome in outcomes] == [[matched], [matched]]
    assert rig.statistics == before


@pytest.mark.parametrize("command", ["PrepRecv", "RemoteSend", "StartGenerate", "Query"])
@pytest.mark.parametrize(
    ("prompt", "expected", "words"),
    [
        ([], "bad_range", "empty"),
        ([1, 1000, 2], "bad_range", "token id 1000 at index 1"),
        ([1] * 40, "too_long", "at most 39"),
        ([1] * 39, "too_long", "10 pages of 4 tokens; this engine has 9"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(
    command: str, prompt: list[int], expected: str, words: str
) -> None:
    network, _, _ = pair()
    rig = Rig(network, "c", fake_card(num_pages=9, max_context=40))
    packed = Tokens(prompt)
    commands: dict[str, AnyCommand] = {
        "PrepRecv": PrepRecv("c", packed),
        "RemoteSend": RemoteSend("c", packed, b""),
        "StartGenerate": StartGenerate("c", packed, 0, Sampling(), BOX),
        "Query": Query("c", packed),
    }

    outcomes = rig.order("f", commands[command])

    [event] = events(outcomes)
    assert isinstance(event, Refused)
    assert (event.verb, event.reason) == (command, expected)
    assert words in event.message
    rig.assert_empty()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=0),
        Sampling(max_tokens=3, min_tokens=4),
        Sampling(prompt_logprobs=21),
        Sampling(logit_bias=((1000, 1.0),)),
        Sampling(logit_bias=((3, 100.5),)),
        Sampling(logit_bias=((3, 1.0), (3, 2.0))),
        Sampling(logit_bias=tuple((token, 1.0) for token in range(1025))),
        Sampling(stop_tokens=(1,) * 257),
        Sampling(temperature=-0.1),
        Sampling(temperature=float("nan")),
        Sampling(top_k=-1),
        Sampling(top_p=0.0),
        Sampling(top_p=1.1),
        Sampling(min_p=-0.1),
        Sampling(repetition_penalty=0.0),
        Sampling(presence_penalty=2.5),
        Sampling(frequency_penalty=float("inf")),
        Sampling(seed=-1),
        Sampling(seed=2**64),
        Sampling(stop=("",)),
        Sampling(stop=("x",) * 65),
        Sampling(stop_tokens=(1000,)),
        Sampling(logprobs=21),
        Sampling(logprobs=-1),
    ],
)
def test_a_sampling_parameter_out_of_range_is_refused(sampling: Sampling) -> None:
    rig = Rig()

    outcomes = rig.order("f", StartGenerate("a", Tokens(PROMPT), 0, sampling, BOX))

    assert reason(outcomes) == "bad_request"
    rig.assert_empty()


@pytest.mark.parametrize("offset", [-1, 10, 11])
def test_an_offset_that_leaves_no_prompt_is_refused(offset: int) -> None:
    rig = Rig()

    command = replace(rig.generate(PROMPT), offset=offset)

    assert reason(rig.order("f", command)) == "bad_range"


def test_a_full_queue_refuses_more() -> None:
    network, _, _ = pair()
    rig = Rig(network, "c", config=small(max_waiting=1))
    rig.start("f", PROMPT)

    assert reason(rig.start("g", PROMPT)) == "busy"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_batch_tokens": 0}, "max_batch_tokens=0"),
        ({"max_running": 600}, "max_running=600 with max_batch_tokens=512"),
        ({"remembered_flows": -1}, "remembered_flows=-1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    changes: dict[str, int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        EngineConfig("a", 1, **changes)


def test_the_refusal_names_flow_and_attempt_of_its_order() -> None:
    rig = Rig()

    [told] = rig.engine.handle(Order("f", 4, "r", Commit("a")), 0.0)

    assert (told.flow, told.attempt) == ("f", 4)
