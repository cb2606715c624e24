"""What was evicted comes back without being computed, and pinned prefixes are not evicted."""

from __future__ import annotations

import pytest

from bus.messages import Matched, PrepRecv, Query, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.fake import fake_card
from engine.fake_wire import FakeNetwork
from engine.pins import PinsFull

from .device import Device, ids, store_for
from .rig import BOX, Rig, events, small, tokens

PROMPT = list(range(1, 22))
OTHER = list(range(200, 230))


def evicted(rig: Rig) -> None:
    """Whatever nobody uses makes room for large prompts."""
    for number in range(3):
        rig.start(f"large{number}", range(300 + 100 * number, 331 + 100 * number), max_tokens=1)
        rig.run()


def test_a_prefix_comes_back_from_the_second_tier() -> None:
    rig = Rig(card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", PROMPT)
    rig.run()
    evicted(rig)
    before = rig.statistics

    rig.start("g", PROMPT)
    answer = tokens(rig.run(), "g")

    now = rig.statistics
    assert answer == rig.runner.continuation(PROMPT, 8)
    assert now.prefill_tokens - before.prefill_tokens == 1
    assert now.restored_pages == 5
    assert now.saved_pages >= now.tier_pages > 0


def test_without_a_second_tier_it_is_computed_again() -> None:
    rig = Rig(card=fake_card(num_pages=10))
    rig.start("f", PROMPT)
    rig.run()
    evicted(rig)
    before = rig.statistics

    rig.start("g", PROMPT)
    rig.run()

    assert rig.statistics.prefill_tokens - before.prefill_tokens == len(PROMPT)
    assert rig.statistics.tier_pages == 0


def test_a_damaged_page_is_computed_again_and_counted() -> None:
    rig = Rig(card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", PROMPT)
    rig.run()
    evicted(rig)
    assert rig.store
    third = list(rig.engine._parts.pages.digests(ids(*PROMPT)))[2]
    before = rig.statistics

    rig.store.peek(third)[5] ^= 1
    rig.start("g", PROMPT)
    answer = tokens(rig.run(), "g")

    now = rig.statistics
    assert answer == rig.runner.continuation(PROMPT, 8)
    assert (now.corrupt_pages, now.restored_pages) == (1, 2)
    assert now.prefill_tokens - before.prefill_tokens == len(PROMPT) - 8


def test_what_is_forgotten_does_not_come_back() -> None:
    device = Device(num_pages=6, store=store_for(Device(num_pages=6).runner, 8))
    for prompt in (range(1, 9), range(100, 124)):  # the second takes the pages of the first
        context = device.context(ids(*prompt))
        device.compute(context)
        context.drop()
    again = device.context(ids(*range(1, 9)))
    again.match(8)
    again.restore(8)
    assert again.num_computed == 8

    again.forget()
    again.drop()

    assert device.pages.num_known(ids(*range(1, 9))) == 0
    device.check()


def test_asking_counts_what_would_come_back_and_moves_nothing() -> None:
    rig = Rig(card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    evicted(rig)

    [event] = events(rig.order("q", Query("a", Tokens([*PROMPT, *OTHER[:9]]))))

    assert isinstance(event, Matched)
    assert event.matched == 20
    assert rig.statistics.restored_pages == 0


def test_what_another_engine_would_have_to_send_comes_back_instead() -> None:
    rig = Rig(FakeNetwork(), card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    evicted(rig)

    prepared = rig.prepare("g", PROMPT)

    assert (prepared.matched, prepared.grant) == (20, b"")


def test_preemption_with_a_second_tier_computes_less_than_a_page_again() -> None:
    rig = Rig(card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", OTHER, max_tokens=9)
    outcomes = rig.step() + rig.step() + rig.step()
    computed = rig.statistics.prefill_tokens
    assert computed == len(OTHER)

    rig.start("urgent", range(400, 430), max_tokens=3, priority=1)
    outcomes += rig.run()

    again = rig.statistics.prefill_tokens - computed - 30
    assert rig.statistics.preemptions == 1
    assert 0 < again <= 4
    assert tokens(outcomes, "f") == rig.runner.continuation(OTHER, 9)


# --- pins ---------------------------------------------------------------------------------------


def pinning(num_pages: int = 12, num_slots: int = 0) -> Rig:
    config = small(pinnable_pages=4)
    return Rig(card=fake_card(num_pages=num_pages), config=config, num_slots=num_slots)


@pytest.mark.parametrize("when", ["before it is computed", "after"])
def test_a_pinned_prefix_is_never_evicted(when: str) -> None:
    rig = pinning()
    if when == "before it is computed":
        assert rig.engine.pin(ids(*PROMPT[:10])) == 8
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    if when == "after":
        assert rig.engine.pin(ids(*PROMPT[:10])) == 8
    for number in range(6):
        rig.start(f"g{number}", range(50 * number + 100, 50 * number + 130), max_tokens=1)
        rig.run()
    before = rig.statistics.prefill_tokens

    rig.start("again", PROMPT, max_tokens=1)
    rig.run()

    assert rig.statistics.prefill_tokens - before == len(PROMPT) - 8
    assert rig.statistics.pinned_pages == 2


def test_an_unpinned_prefix_may_go() -> None:
    rig = pinning()
    rig.engine.pin(ids(*PROMPT[:8]))
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()

    rig.engine.unpin(ids(*PROMPT[:8]))
    evicted(rig)

    assert rig.statistics.pinned_pages == 0
    [matched] = events(rig.order("q", Query("a", Tokens(PROMPT))))
    assert matched == Matched(0, 0, 12)
    with pytest.raises(ValueError, match="not pinned"):
        rig.engine.unpin(ids(*PROMPT[:8]))


def test_a_page_of_two_pinned_prefixes_stays_until_both_are_unpinned() -> None:
    rig = pinning()
    for end in (8, 12):
        rig.engine.pin(ids(*PROMPT[:end]))
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()

    rig.engine.unpin(ids(*PROMPT[:8]))
    assert rig.statistics.pinned_pages == 3
    rig.engine.unpin(ids(*PROMPT[:12]))
    assert rig.statistics.pinned_pages == 0
    rig.engine.check_integrity()


def test_more_than_may_be_pinned_is_refused_in_words() -> None:
    rig = pinning()

    with pytest.raises(PinsFull, match="5 pages would be pinned, 4 may be"):
        rig.engine.pin(ids(*PROMPT))

    assert rig.engine.pin(ids(*PROMPT[:16])) == 16


def test_pins_cannot_starve_a_request_that_was_accepted() -> None:
    rig = pinning()
    rig.engine.pin(ids(*range(500, 516)))
    rig.start("p", range(500, 516), max_tokens=1)
    rig.run()

    refused = rig.start("large", range(33), max_tokens=1)
    rig.start("fits", range(31), max_tokens=50)

    assert "8" in events(refused)[0].message  # type: ignore[union-attr]
    assert len(tokens(rig.run(), "fits")) == 2
    assert rig.statistics.used_pages == rig.statistics.pinned_pages == 4


def test_a_pinned_prefix_that_was_evicted_before_is_kept_when_it_comes_back() -> None:
    rig = pinning(num_slots=40)
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    evicted(rig)
    rig.engine.pin(ids(*PROMPT[:8]))
    assert rig.statistics.pinned_pages == 0

    sampling = Sampling(max_tokens=1)
    rig.order("g", StartGenerate("a", Tokens(PROMPT), 0, sampling, BOX))
    rig.run()

    assert rig.statistics.restored_pages == 5
    assert rig.statistics.pinned_pages == 2


def test_a_reservation_may_bring_pages_back_and_still_fits() -> None:
    rig = Rig(FakeNetwork(), card=fake_card(num_pages=10), num_slots=40)
    rig.start("f", PROMPT, max_tokens=1)
    rig.run()
    evicted(rig)

    [event] = events(rig.order("g", PrepRecv("a", Tokens([*PROMPT, *range(70, 79)]), None)))

    assert event.matched == 20  # type: ignore[union-attr]
    assert rig.statistics.granted_pages == 3
