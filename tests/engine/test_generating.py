"""`StartGenerate` and `Suspend`: tokens, text, reasons, offsets and timings."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bus.messages import (
    Finished,
    Release,
    Released,
    Sampling,
    Started,
    StartGenerate,
    Suspend,
    Suspended,
)
from bus.public import ChoiceDone, Delta, Done, TokenLogprob
from bus.tokens import Tokens
from engine.fake import Cost, FakeRunner, fake_card
from engine.outcomes import Outcome, Output, Phase, Told

from .rig import BOX, Rig, deltas, done, events, pair, phases, reason, small, text, tokens

PROMPT = list(range(1, 11))


def ask(rig: Rig, sampling: Sampling, prompt: list[int] = PROMPT, offset: int = 0) -> StartGenerate:
    return StartGenerate(rig.name, Tokens(prompt), 0, sampling, BOX, offset)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 15, 16, 17, 50])
def test_any_prompt_is_answered_with_the_tokens_that_must_follow(length: int) -> None:
    rig = Rig()
    prompt = list(range(100, 100 + length))

    rig.start("f", prompt, max_tokens=9)

    assert tokens(rig.run(), "f") == rig.runner.continuation(prompt, 9)
    rig.assert_empty()


@pytest.mark.parametrize("length", [1, 4, 5, 8, 9, 33])
def test_a_warm_cache_changes_no_token_and_saves_all_full_pages_but_the_last_token(
    length: int,
) -> None:
    rig = Rig()
    prompt = list(range(length))
    rig.start("f", prompt)
    cold = tokens(rig.run(), "f")

    rig.start("g", prompt)

    outcomes = rig.run()
    assert tokens(outcomes, "g") == cold
    assert done(outcomes).usage.cached_tokens == (length - 1) // 4 * 4


def test_an_answer_is_cached_for_the_next_turn_of_the_talk() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=7)
    answer = tokens(rig.run(), "f")

    rig.start("g", [*PROMPT, *answer, 5, 6])

    assert done(rig.run()).usage.cached_tokens == 16


def test_the_outcomes_of_a_request_come_in_order() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=2)

    outcomes = rig.run()

    first, second = rig.runner.continuation(PROMPT, 2)
    finished = outcomes[-1]
    assert isinstance(finished, Told)
    assert isinstance(finished.event, Finished)
    assert outcomes[0] == Output("f", 1, BOX, Delta("f", 0, (first,), f"{first} "))
    assert events(outcomes[1:2]) == [Started(0)]
    assert outcomes[2] == Output("f", 1, BOX, Delta("f", 1, (second,), f"{second} "))
    assert outcomes[3] == Output("f", 1, BOX, Done("f", 2, "length", finished.event.usage))
    assert finished.event.reason == "length"
    assert len(outcomes) == 5


def test_an_end_token_ends_the_answer_without_being_text() -> None:
    card = fake_card()
    third = FakeRunner(card).continuation(PROMPT, 3)[2]
    rig = Rig(card=fake_card(end_tokens=[third]))
    rig.start("f", PROMPT, max_tokens=9)

    outcomes = rig.run()

    assert tokens(outcomes, "f")[-1] == third
    assert len(tokens(outcomes, "f")) == 3
    assert f"{third} " not in text(outcomes)
    assert done(outcomes).reason == "stop"
    assert done(outcomes).usage.completion_tokens == 3


def test_a_stop_token_of_the_user_does_the_same() -> None:
    rig = Rig()
    expected = rig.runner.continuation(PROMPT, 9)
    rig.order("f", ask(rig, Sampling(max_tokens=9, stop_tokens=(expected[1],))))

    outcomes = rig.run()

    assert tokens(outcomes, "f") == expected[:2]
    assert text(outcomes) == f"{expected[0]} "
    assert done(outcomes).reason == "stop"


def test_no_end_token_is_chosen_before_min_tokens() -> None:
    first, second = Rig().runner.continuation(PROMPT, 2)
    rig = Rig(card=fake_card(end_tokens=[first, second]))
    rig.order("f", ask(rig, Sampling(max_tokens=9, min_tokens=3)))

    answer = tokens(rig.run(), "f")

    assert len(answer) >= 3
    assert not {first, second} & set(answer[:3])


def test_a_stop_string_does_not_count_before_min_tokens() -> None:
    rig = Rig()
    expected = rig.runner.continuation(PROMPT, 9)
    stops = tuple(f"{token} " for token in expected)
    rig.order("f", ask(rig, Sampling(max_tokens=9, min_tokens=4, stop=stops)))

    outcomes = rig.run()

    assert tokens(outcomes, "f") == expected[:5]
    assert text(outcomes) == "".join(stops[:4])
    assert done(outcomes).reason == "stop"


def test_the_models_end_tokens_may_be_ignored_but_not_the_users() -> None:
    expected = Rig().runner.continuation(PROMPT, 9)
    rig = Rig(card=fake_card(end_tokens=expected[:2]))
    rig.order("f", ask(rig, Sampling(max_tokens=9, ignore_eos=True, stop_tokens=(expected[4],))))

    outcomes = rig.run()

    assert tokens(outcomes, "f") == expected[:5]
    assert done(outcomes).reason == "stop"


def test_a_stop_string_ends_the_text_before_it_and_holds_back_what_may_be_its_beginning() -> None:
    rig = Rig()
    expected = rig.runner.continuation(PROMPT, 9)
    stop = f"{expected[2]} {expected[3]}"
    rig.order("f", ask(rig, Sampling(max_tokens=9, stop=(stop,))))

    outcomes = rig.run()

    assert [delta.text for delta in deltas(outcomes)] == [
        f"{expected[0]} ",
        f"{expected[1]} ",
        "",
        "",
    ]
    assert done(outcomes).reason == "stop"
    assert done(outcomes).offset == 4


def test_log_probabilities_come_where_they_were_asked_for() -> None:
    rig = Rig()
    rig.order("f", ask(rig, Sampling(max_tokens=1, logprobs=2)))

    [output, *_] = rig.run()

    token = rig.runner.continuation(PROMPT, 1)[0]
    assert isinstance(output, Output)
    assert isinstance(output.message, Delta)
    expected = TokenLogprob(token, -0.5, ((token, -0.5), (token + 1, -1.5)))
    assert output.message.logprobs == (expected,)


def test_a_full_context_ends_the_answer() -> None:
    rig = Rig(card=fake_card(max_context=14))
    rig.start("f", PROMPT, max_tokens=99)

    outcomes = rig.run()

    assert tokens(outcomes, "f") == rig.runner.continuation(PROMPT, 4)
    assert done(outcomes).reason == "length"


def test_a_full_pool_ends_the_answer() -> None:
    rig = Rig(card=fake_card(num_pages=4))
    rig.start("f", PROMPT, max_tokens=99)

    outcomes = rig.run()

    assert tokens(outcomes, "f") == rig.runner.continuation(PROMPT, 16 + 1 - 10)
    assert done(outcomes).reason == "length"


@pytest.mark.parametrize("offset", range(1, 8))
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_an_answer_that_another_engine_began_goes_on_as_if_it_had_not_been_cut(
    offset: int, temperature: float
) -> None:
    rig = Rig()
    sampling = Sampling(max_tokens=8, temperature=temperature, seed=5, stop=("no such text",))
    whole = rig.runner.continuation(PROMPT, 8, sampling)

    rig.order("f", ask(rig, sampling, [*PROMPT, *whole[:offset]], offset))

    outcomes = rig.run()
    assert [delta.offset for delta in deltas(outcomes)] == list(range(offset, 8))
    assert [delta.tokens[0] for delta in deltas(outcomes)] == whole[offset:]
    assert text(outcomes) == "".join(f"{token} " for token in whole[offset:])
    assert done(outcomes).offset == 8
    assert done(outcomes).usage.prompt_tokens == len(PROMPT)


def test_text_that_the_first_engine_held_back_is_given_out_by_the_second() -> None:
    rig = Rig()
    whole = rig.runner.continuation(PROMPT, 3)
    sampling = Sampling(max_tokens=3, stop=(f"{whole[1]} nothing like this",))

    rig.order("f", ask(rig, sampling, [*PROMPT, *whole[:2]], offset=2))

    assert text(rig.run()) == f"{whole[1]} {whole[2]} "


def test_an_answer_that_was_over_is_told_so_at_once() -> None:
    rig = Rig()
    whole = rig.runner.continuation(PROMPT, 3)

    outcomes = rig.order("f", ask(rig, Sampling(max_tokens=3), [*PROMPT, *whole], offset=3))

    assert done(outcomes).reason == "length"
    assert done(outcomes).offset == 3
    assert isinstance(events(outcomes)[0], Finished)
    rig.assert_empty()


def test_seeds_and_positions_choose_the_token_whatever_else_is_in_the_batch() -> None:
    rig = Rig()
    sampled = Sampling(max_tokens=6, temperature=1.0, seed=11)
    rig.order("f", ask(rig, sampled))
    rig.start("g", [9, 9, 9], max_tokens=6)
    rig.order("h", ask(rig, replace(sampled, seed=12)))

    outcomes = rig.run()

    assert tokens(outcomes, "f") == rig.runner.continuation(PROMPT, 6, sampled)
    assert tokens(outcomes, "h") == rig.runner.continuation(PROMPT, 6, replace(sampled, seed=12))
    assert tokens(outcomes, "f") != tokens(outcomes, "h")


def test_usage_says_where_the_time_went() -> None:
    rig = _timed()
    rig.order("f", ask(rig, Sampling(max_tokens=3)))
    rig.now = 5.0

    outcomes = []
    while rig.engine.has_work:
        outcomes += rig.step()
        rig.now += 1.0

    usage = done(outcomes).usage
    assert (usage.queue_s, usage.prefill_s, usage.decode_s) == (5.0, 2.0, 2.0)
    assert phases(outcomes) == ["queue", "prefill", "prefill", "decode"]


def _timed() -> Rig:
    return Rig(config=small(prefill_chunk=8), cost=Cost(step_s=1.0))


def test_phases_say_what_each_chunk_computed() -> None:
    rig = _timed()
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    rig.start("g", [*PROMPT, *range(50, 60)], max_tokens=3)

    told = [o for o in rig.run() if isinstance(o, Told)]

    queue, *chunks = told[0].phases
    assert queue.name == "queue"
    assert [chunk.attributes for chunk in chunks] == [
        {"tokens": 8, "cached": 8},
        {"tokens": 4, "cached": 0},
    ]
    assert [phase.attributes for phase in told[1].phases] == [{"tokens": 2, "steps": 2}]


def test_a_released_answer_tells_how_long_it_decoded() -> None:
    rig = _timed()
    rig.start("f", PROMPT, max_tokens=9)
    for _ in range(4):
        rig.step()
        rig.now += 1.0

    [told] = [o for o in rig.order("f", Release("a")) if isinstance(o, Told)]

    assert told.event == Released()
    assert told.phases == (Phase("decode", 2.0, 4.0, {"tokens": 2, "steps": 2}),)


def test_a_request_that_is_released_in_the_queue_tells_how_long_it_waited() -> None:
    rig = Rig()
    rig.start("f", PROMPT)
    rig.now = 3.0

    [told] = [o for o in rig.order("f", Release("a")) if isinstance(o, Told)]

    assert told.phases == (Phase("queue", 0.0, 3.0),)


def test_a_request_that_is_released_before_its_kv_has_come_tells_how_long_it_waited() -> None:
    network, _, b = pair()
    grant = b.prepare("f", PROMPT)
    b.order("f", b.generate(PROMPT, begin=len(PROMPT) - 1))
    b.now = 3.0

    assert grant.grant
    assert b.order("f", Release("b")) == []
    network.settle()
    [told] = [o for o in b.hear() if isinstance(o, Told)]

    assert told.phases == (Phase("wait", 0.0, 3.0),)


def test_a_release_tells_of_the_answers_that_had_ended_too() -> None:
    rig = Rig()
    rig.order("f", ask(rig, Sampling(max_tokens=3, n=2)))
    outcomes: list[Outcome] = []
    while not any(isinstance(o, Output) and isinstance(o.message, ChoiceDone) for o in outcomes):
        outcomes += rig.step()

    assert phases(rig.order("f", Release("a"))) == [
        "decode",
        "queue",
        "prefill",
        "decode",
    ]


def test_suspending_stops_a_request_and_keeps_its_pages() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=50)
    for _ in range(3):
        rig.step()

    outcomes = rig.order("f", Suspend("a"))

    [suspended] = events(outcomes)
    assert isinstance(suspended, Suspended)
    assert suspended == Suspended(12, Tokens(rig.runner.continuation(PROMPT, 3)))
    assert not rig.engine.has_work
    assert rig.statistics.used_pages == 3
    assert rig.statistics.suspended == 1


def test_a_suspended_request_goes_on_in_another_attempt_without_computing_again() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=9)
    begun = rig.step() + rig.step() + rig.step()
    rig.order("f", Suspend("a"))
    so_far = tokens(begun, "f")

    resumed = replace(rig.generate([*PROMPT, *so_far], max_tokens=9), offset=3)
    rig.order("f", resumed, attempt=2)

    outcomes = rig.run()
    whole = so_far + [delta.tokens[0] for delta in deltas(outcomes)]
    assert whole == rig.runner.continuation(PROMPT, 9)
    assert events(outcomes)[0] == Started(10)
    rig.assert_empty()


def test_suspending_twice_is_a_repeat_and_releasing_frees() -> None:
    rig = Rig()
    rig.start("f", PROMPT, max_tokens=50)
    rig.step()
    rig.order("f", Suspend("a"))

    assert rig.order("f", Suspend("a")) == []
    assert events(rig.order("f", Release("a"))) == [Released()]
    rig.assert_empty()


def test_suspending_what_does_not_generate_is_out_of_order_and_may_be_tried_again() -> None:
    network, a, b = pair()
    grant = b.prepare("f", PROMPT)
    b.start("f", PROMPT)
    a.order("f", a.send(grant, PROMPT))
    assert reason(b.order("f", Suspend("b"))) == "out_of_order"

    a.run()
    network.settle()
    b.hear()
    b.step()

    assert events(b.order("f", Suspend("b"))) == [
        Suspended(10, Tokens(b.runner.continuation(PROMPT, 1)))
    ]


@pytest.mark.parametrize("steps", [0, 1, 2, 4])
def test_releasing_frees_in_every_phase_and_nothing_is_said_to_the_user_after(steps: int) -> None:
    rig = Rig(config=small(prefill_chunk=4))
    rig.start("f", PROMPT, max_tokens=50)
    for _ in range(steps):
        rig.step()

    assert events(rig.order("f", Release("a"))) == [Released()]

    assert rig.run() == []
    rig.assert_empty()
