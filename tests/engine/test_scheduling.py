"""Who is computed when, and who gives way when pages are short."""

from __future__ import annotations

from bus.messages import Finished, Suspend
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork
from engine.outcomes import Told
from engine.runner import OnLayer, Row, Sampled

from .rig import Rig, deltas, events, pair, phases, small, tokens


def batches(rig: Rig) -> list[list[int]]:
    """The row lengths of every batch from now on."""
    seen: list[list[int]] = []
    run = rig.runner.run

    def watched(rows: list[Row], on_layer: OnLayer | None = None) -> list[tuple[Sampled, ...]]:
        seen.append([len(row.tokens) for row in rows])
        return run(rows, on_layer)

    rig.runner.run = watched  # type: ignore[method-assign]
    return seen


def test_decoding_goes_on_while_a_long_prompt_is_computed_in_chunks() -> None:
    rig = Rig(config=small(max_batch_tokens=8, prefill_chunk=6, max_running=4))
    rig.start("f", [1, 2, 3], max_tokens=9)
    rig.step()
    seen = batches(rig)

    rig.start("g", range(100, 115), max_tokens=1)
    rig.run()

    assert seen[:3] == [[1, 6], [1, 6], [1, 3]]
    assert seen[3:] == [[1]] * 5


def test_prompts_fill_a_batch_in_the_order_of_arrival() -> None:
    rig = Rig(config=small(max_batch_tokens=8, prefill_chunk=6, max_running=4))
    seen = batches(rig)
    for number, flow in enumerate("fgh"):
        rig.start(flow, range(100 * number, 100 * number + 7), max_tokens=1)

    rig.run()

    assert seen == [[6, 2], [1, 5, 2], [5]]


def test_no_more_run_than_may() -> None:
    rig = Rig(config=small(max_running=2))
    for flow in "fghi":
        rig.start(flow, [1, 2, 3], max_tokens=4)

    rig.step()

    assert (rig.statistics.running, rig.statistics.waiting, rig.statistics.load) == (2, 2, 4)
    rig.run()
    rig.assert_empty()


def test_the_latest_comer_gives_way_and_no_token_is_repeated_or_lost() -> None:
    rig = Rig(card=fake_card(num_pages=8))
    prompts = {flow: list(range(100 * n, 100 * n + 6)) for n, flow in enumerate("fgh")}
    for flow, prompt in prompts.items():
        rig.start(flow, prompt, max_tokens=16)

    outcomes = rig.run()

    assert rig.statistics.preemptions > 0
    for flow, prompt in prompts.items():
        assert tokens(outcomes, flow) == rig.runner.continuation(prompt, 16)
    finished = [o for o in outcomes if isinstance(o, Told) and isinstance(o.event, Finished)]
    assert finished[0].flow == "f", "the first comer is never held up"
    assert phases(outcomes).count("queue") == 3 + rig.statistics.preemptions
    rig.assert_empty()


def test_a_preempted_request_says_that_it_started_once() -> None:
    rig = Rig(card=fake_card(num_pages=8))
    for n, flow in enumerate("fg"):
        rig.start(flow, range(100 * n, 100 * n + 10), max_tokens=20)

    outcomes = rig.run()

    assert rig.statistics.preemptions > 0
    names = [type(event).__name__ for event in events(outcomes)]
    assert sorted(names) == ["Finished", "Finished", "Started", "Started"]


def test_a_request_that_needs_the_whole_pool_gets_it_and_those_behind_it_their_turn() -> None:
    rig = Rig(card=fake_card(num_pages=8))
    rig.start("f", [1, 2, 3], max_tokens=10)
    rig.step()
    rig.start("g", range(32), max_tokens=1)
    rig.start("h", [7, 7], max_tokens=3)

    outcomes = rig.run()

    assert [type(event).__name__ for event in events(outcomes)].count("Finished") == 3
    rig.assert_empty()


def test_received_contexts_that_nobody_uses_give_way_and_are_computed_again() -> None:
    network = FakeNetwork()
    a, b = Rig(network, "a"), Rig(network, "b", fake_card(num_pages=8))
    prompt = list(range(1, 18))
    a.order("f", a.send(b.prepare("f", prompt), prompt))
    a.run()
    network.settle()
    b.hear()
    b.start("g", range(100, 120), max_tokens=4)

    others = b.run()
    b.start("f", prompt)

    assert tokens(others, "g") == b.runner.continuation(range(100, 120), 4)
    assert b.statistics.forgone_contexts == 1
    assert tokens(b.run(), "f") == b.runner.continuation(prompt, 8)
    b.assert_empty()


def test_suspended_requests_give_way_too() -> None:
    rig = Rig(card=fake_card(num_pages=8))
    rig.start("f", range(17), max_tokens=5)
    rig.step()
    rig.step()
    rig.order("f", Suspend("a"))

    rig.start("g", range(100, 120), max_tokens=4)

    assert len(tokens(rig.run(), "g")) == 4
    assert rig.statistics.forgone_contexts == 1
    assert rig.statistics.suspended == 1


def test_granted_pages_are_not_taken_and_the_engine_rests_until_they_are_free() -> None:
    network = FakeNetwork()
    b = Rig(network, "b", fake_card(num_pages=8))
    b.prepare("f", range(24))
    b.start("g", range(100, 112), max_tokens=4)

    assert b.run() == []
    assert (b.statistics.granted_pages, b.statistics.waiting) == (6, 1)
    assert not b.engine.has_work

    network.fence(next(iter(network.granted.values())))
    b.hear()
    assert b.engine.has_work
    assert len(tokens(b.run(), "g")) == 4


def test_a_running_request_that_grants_hem_in_goes_on_when_they_are_over() -> None:
    network = FakeNetwork()
    b = Rig(network, "b", fake_card(num_pages=8))
    b.start("g", range(100, 106), max_tokens=20)
    begun = b.step()
    b.prepare("f", range(24))

    stopped = begun + b.run()
    network.fence(next(iter(network.granted.values())))
    b.hear()

    outcomes = stopped + b.run()
    assert 0 < len(deltas(stopped)) < 20
    assert tokens(outcomes, "g") == b.runner.continuation(range(100, 106), 20)


def test_the_last_that_runs_gives_way_to_one_that_waits_with_its_pages() -> None:
    network = FakeNetwork()
    a, b = Rig(network, "a"), Rig(network, "b", fake_card(num_pages=5))
    first, second = list(range(12)), list(range(100, 111))
    grant = b.prepare("first", first, end=8)
    b.order("first", b.generate(first, begin=8, max_tokens=2))
    b.start("second", second, max_tokens=5)
    outcomes = b.step()
    a.order("first", a.send(grant, first, end=8))
    a.run()
    network.settle()
    b.hear()

    outcomes += b.run()

    assert tokens(outcomes, "first") == b.runner.continuation(first, 2)
    assert tokens(outcomes, "second") == b.runner.continuation(second, 5)
    b.assert_empty()


def test_an_engine_without_work_says_so() -> None:
    rig = Rig()
    assert not rig.engine.has_work
    assert rig.step() == []

    rig.start("f", [1], max_tokens=1)
    assert rig.engine.has_work
    rig.run()

    assert not rig.engine.has_work
    assert rig.statistics.steps == 1
    assert rig.statistics.steps_by_batch == (0, 1)


def test_the_statistics_count_what_was_computed_and_what_was_found() -> None:
    rig = Rig()
    for flow in "fg":
        rig.start(flow, range(10), max_tokens=3)
        rig.run()

    now = rig.statistics

    assert (now.prefill_tokens, now.decode_tokens) == (10 + 2, 4)
    assert (now.matchable_tokens, now.matched_tokens) == (18, 8)
    assert (now.finished, now.steps) == (2, 6)


def test_a_context_keeps_the_place_of_its_preparation_in_the_queue() -> None:
    network, a, _ = pair()
    b = Rig(network, "c", config=small(max_running=1))
    prompt = list(range(1, 18))
    a.order("f", a.send(b.prepare("f", prompt), prompt))
    a.run()
    network.settle()
    b.hear()
    b.start("g", [5, 6, 7], max_tokens=1)
    b.start("f", prompt, max_tokens=1)

    outcomes = b.run()

    assert [outcome.flow for outcome in deltas(outcomes)] == ["f", "g"]


def test_a_decoding_row_takes_one_token_of_the_batch_and_leaves_the_rest_to_prompts() -> None:
    rig = Rig(config=small(max_batch_tokens=8, prefill_chunk=8, max_running=4))
    for flow in "fg":
        rig.start(flow, [1, 2, 3], max_tokens=9)
    rig.step()
    seen = batches(rig)

    rig.start("h", range(100, 115), max_tokens=1)
    rig.run()

    assert seen[:3] == [[1, 1, 6], [1, 1, 6], [1, 1, 3]]


def test_a_prompt_goes_on_in_the_next_batch_with_all_that_decoding_leaves() -> None:
    rig = Rig(config=small(max_batch_tokens=8, prefill_chunk=8, max_running=4))
    rig.start("f", [1, 2, 3], max_tokens=9)
    rig.step()
    seen = batches(rig)

    rig.start("g", range(100, 117), max_tokens=1)
    rig.run()

    assert seen[:3] == [[1, 7], [1, 7], [1, 3]]


def test_the_statistics_tell_how_many_sequences_the_steps_had() -> None:
    rig = Rig()
    for flow, prompt in {"f": [1, 2], "g": [3, 4], "h": [5, 6]}.items():
        rig.start(flow, prompt, max_tokens=1 if flow == "h" else 3)

    rig.run()

    counted = rig.statistics
    assert counted.steps_by_batch == (0, 0, 2, 1)
    assert sum(counted.steps_by_batch) == counted.steps
