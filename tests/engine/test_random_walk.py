"""Orders and transfers in any order, in pools that are too small: nothing is lost, mixed up or left
over, and every token is the one that a lone engine with all the memory would have made."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from .walk import Walk


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_pages=st.sampled_from([9, 14, 60]),
    num_slots=st.sampled_from([0, 5, 50]),
)
@example(seed=433, num_pages=60, num_slots=0)  # a lingering flow was begun again
@example(seed=111, num_pages=9, num_slots=0)  # the last to run gave way, and nobody began
def test_whatever_happens_every_order_ends_once_and_every_token_is_right(
    seed: int, num_pages: int, num_slots: int
) -> None:
    walk = Walk(seed, num_pages, num_slots)

    for _ in range(300):
        walk.move()
    walk.finish()

    walk.check_tokens()


def test_the_walk_visits_what_it_is_meant_to_test() -> None:
    walks = [Walk(seed, num_pages=12, num_slots=12 * (seed % 2)) for seed in range(8)]

    for walk in walks:
        for _ in range(300):
            walk.move()
        walk.finish()

    statistics = [rig.statistics for walk in walks for rig in walk.rigs.values()]
    assert sum(walk.check_tokens() for walk in walks) > 500
    assert sum(now.preemptions for now in statistics) > 10
    assert sum(now.evicted_pages for now in statistics) > 50
    assert sum(now.restored_pages for now in statistics) > 20
    assert sum(now.received_tokens for now in statistics) > 100
    assert sum(now.forgone_contexts for now in statistics) > 0
    assert sum(now.matched_tokens for now in statistics) > 100
    assert sum(now.right_guesses for now in statistics) > 20
    assert any(choice > 0 for walk in walks for _, choice in walk.ledger.answers)
