"""A prefix comes back from the second tier over several steps, beside those that decode."""

from __future__ import annotations

import pytest

from engine.config import EngineConfig
from engine.fake import Cost, fake_card
from engine.fake_wire import FakeNetwork
from engine.outcomes import Outcome
from engine.pace import Pace

from .rig import Rig, deltas, small, tokens

PAGE = 4
PROMPT = list(range(1, 22))
LONG = [n % 900 for n in range(601)]


def away(rig: Rig, prompt: list[int], num_others: int) -> None:
    """The prompt was computed, and is in the second tier by now."""
    rig.start("before", prompt, max_tokens=1)
    rig.run()
    for number in range(num_others):
        rig.start(f"large{number}", range(300 + 100 * number, 331 + 100 * number), max_tokens=1)
        rig.run()


def decoding(rig: Rig) -> None:
    rig.start("busy", [990, 991], max_tokens=200)
    for _ in range(3):
        rig.step()


def small_batches() -> EngineConfig:
    return small(max_batch_tokens=2 * PAGE + 1, prefill_chunk=2 * PAGE)


def test_beside_one_that_decodes_a_batch_of_tokens_comes_back_in_a_step() -> None:
    rig = Rig(card=fake_card(num_pages=40), config=small_batches(), num_slots=80)
    away(rig, PROMPT, num_others=6)
    decoding(rig)
    prefilled = rig.statistics.prefill_tokens

    rig.start("f", PROMPT)
    restored, outcomes = list[int](), list[Outcome]()
    while not tokens(outcomes, "f"):
        step = rig.step()
        outcomes += step
        restored.append(rig.statistics.restored_pages)
        assert [delta.flow for delta in deltas(step)][:1] == ["busy"]

    assert restored == [2, 4, 5]
    assert rig.statistics.prefill_tokens - prefilled == 1
    assert tokens(outcomes + rig.run(), "f") == rig.runner.continuation(PROMPT, 8)


def test_alone_all_of_it_comes_back_at_once() -> None:
    rig = Rig(card=fake_card(num_pages=40), config=small_batches(), num_slots=80)
    away(rig, PROMPT, num_others=6)

    rig.start("f", PROMPT)
    outcomes = rig.step()

    assert rig.statistics.restored_pages == 5
    assert len(tokens(outcomes, "f")) == 1


def test_a_request_whose_prefix_is_coming_back_holds_no_page() -> None:
    """So one that is more urgent takes what came back first, and both get on."""
    rig = Rig(card=fake_card(num_pages=12), config=small_batches(), num_slots=80)
    away(rig, PROMPT, num_others=3)
    decoding(rig)
    rig.start("f", PROMPT, max_tokens=3)
    outcomes = rig.step()
    assert rig.statistics.restored_pages == 2

    rig.start("urgent", range(700, 730), max_tokens=3, priority=1)
    outcomes += rig.run()

    assert tokens(outcomes, "f") == rig.runner.continuation(PROMPT, 3)
    assert len(tokens(outcomes, "urgent")) == 3
    rig.assert_empty()


def test_what_is_to_be_received_comes_back_by_so_much_and_the_rest_is_sent() -> None:
    network = FakeNetwork()
    rig = Rig(network, card=fake_card(num_pages=40), config=small_batches(), num_slots=80)
    away(rig, PROMPT, num_others=6)
    decoding(rig)

    prepared = rig.prepare("g", PROMPT)

    assert prepared.matched == 2 * PAGE
    assert prepared.grant


@pytest.mark.parametrize("restore_s", [0.0005, 0.004, 0.06])
def test_nobody_waits_longer_than_he_may_while_a_long_prefix_comes_back(restore_s: float) -> None:
    """But for the pages that come back one in each step, whatever that takes."""
    bound_s, cost = 0.05, Cost(step_s=0.010, token_s=0.001, context_s=0.00001)
    config = small(max_batch_tokens=512, prefill_chunk=512, inter_token_s=bound_s)
    card = fake_card(num_pages=200, max_context=2048)
    rig = Rig(card=card, config=config, cost=cost, num_slots=400, restore_s=restore_s)
    away(rig, LONG, num_others=7)
    rig.start("filler", [n % 997 for n in range(5000, 5760)], max_tokens=1)
    rig.run()
    decoding(rig)
    before = rig.statistics

    rig.start("f", LONG, max_tokens=1)
    gaps, outcomes = list[float](), list[Outcome]()
    while not tokens(outcomes, "f"):
        began_s = rig.clock_s
        outcomes += rig.step()
        gaps.append(rig.clock_s - began_s)

    now = rig.statistics
    assert now.restored_pages - before.restored_pages == 150
    assert now.prefill_tokens - before.prefill_tokens == 1
    assert max(gaps) <= max(bound_s, restore_s + 0.013)
    if restore_s < 0.01:
        assert len(gaps) < 3 + 150 * restore_s / (0.6 * (bound_s - 0.01)), "as much as may be"


def test_what_coming_back_costs_is_taken_from_prompts_of_the_same_step() -> None:
    pace = Pace(1.0, PAGE)
    assert pace.restorable_tokens(2) == PAGE
    pace.learn(0, 1000, 1.0)
    pace.learn_restoring(1000, 0.1)

    assert pace.restorable_tokens(2) == pytest.approx(8500)
    assert pace.worth_of_restored(100) == 10
