"""Chunks of prompts are cut so that those who decode wait no longer than they may."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fake import Cost, fake_card
from engine.outcomes import Outcome
from engine.pace import Pace

from .rig import Rig, deltas, small, tokens

LEAST = 4


def test_without_a_bound_or_without_anybody_who_decodes_everything_fits() -> None:
    free, bound = Pace(None, LEAST), Pace(0.1, LEAST)
    for pace in (free, bound):
        pace.learn(3, 100, 5.0)

    assert free.prompt_tokens(3) == inf
    assert bound.prompt_tokens(0) == inf


def test_before_anything_is_known_the_first_chunk_is_small() -> None:
    assert Pace(0.1, LEAST).prompt_tokens(1) == LEAST


def test_a_bound_that_cannot_be_kept_leaves_prompts_a_little() -> None:
    pace = Pace(0.1, LEAST)
    pace.learn(0, 100, 1.0)
    pace.learn(5, 0, 0.2)

    assert pace.prompt_tokens(5) == LEAST


def test_the_last_tokens_of_a_prompt_teach_little() -> None:
    pace = Pace(1.0, LEAST)
    pace.learn(0, 1000, 1.0)
    before = pace.prompt_tokens(1)

    pace.learn(0, 1, 0.5)

    assert pace.prompt_tokens(1) > before / 10


@given(
    bound_s=st.floats(0.05, 1.0),
    base_s=st.floats(0.001, 0.03),
    row_s=st.floats(0.0, 0.001),
    token_s=st.floats(0.0001, 0.005),
    num_decoding=st.integers(1, 16),
    noise=st.lists(st.floats(0.95, 1.05), min_size=60, max_size=60),
)
def test_steps_settle_at_the_bound_whatever_the_machine(
    bound_s: float,
    base_s: float,
    row_s: float,
    token_s: float,
    num_decoding: int,
    noise: list[float],
) -> None:
    pace, took, size = Pace(bound_s, LEAST), list[float](), 0
    pace.learn(0, 50, base_s + 50 * token_s)
    for factor in noise:
        size = int(min(4096, pace.prompt_tokens(num_decoding)))
        took.append(factor * (base_s + num_decoding * row_s + size * token_s))
        pace.learn(num_decoding, size, took[-1])

    least_s = 1.05 * (base_s + num_decoding * row_s + LEAST * token_s)
    assert max(took[20:]) <= max(bound_s, least_s)
    if size > 10 * LEAST:
        assert min(took[20:]) > 0.6 * bound_s or size == 4096, "and no shorter than need be"


@pytest.mark.parametrize("bound_s", [0.05, 0.2])
def test_a_long_prompt_does_not_stall_those_that_decode(bound_s: float) -> None:
    cost = Cost(step_s=0.010, token_s=0.001, context_s=0.00001)
    config = small(max_batch_tokens=512, prefill_chunk=512, inter_token_s=bound_s)
    rig = Rig(card=fake_card(num_pages=512, max_context=2048), config=config, cost=cost)
    rig.start("f", range(1, 30), max_tokens=200)
    for _ in range(5):
        rig.step()
    rig.start("long", [n % 1000 for n in range(1000)], max_tokens=1)

    gaps, outcomes = list[float](), list[Outcome]()
    while not any(delta.flow == "long" for delta in deltas(outcomes)):
        began_s = rig.clock_s
        outcomes += rig.step()
        gaps.append(rig.clock_s - began_s)

    assert max(gaps) <= bound_s
    assert len(gaps) < 2 * 1000 * 0.001 / (bound_s - 0.02), "chunks are as large as they may be"
    assert len(tokens(rig.run() + outcomes, "long")) == 1
    rig.assert_empty()


def test_prompts_alone_are_cut_by_the_batch_only() -> None:
    rig = Rig(
        card=fake_card(num_pages=64),
        config=small(max_batch_tokens=100, prefill_chunk=100, inter_token_s=0.01),
        cost=Cost(token_s=1.0),
    )
    rig.start("f", range(200), max_tokens=1)

    rig.run()

    assert rig.statistics.steps == 2
