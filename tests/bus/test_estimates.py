"""What serving a request would cost: the user's own seconds, and everybody else's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.estimates import (
    CROWD,
    FULL,
    HANDING_OVER_STEPS,
    LASTING,
    Plan,
    cost_s,
    even_split,
    measured,
    prompt_shares,
    step_s,
)
from bus.fleet import Engine

QUICK = Engine("e0", prefill_tokens_per_s=1000.0, decode_base_s=0.002, decode_row_s=0.001)
"""A token of a prompt takes a millisecond, a step of one answer three."""
OTHER = replace(QUICK, name="e1")
ENGINES = st.builds(
    Engine,
    name=st.sampled_from("abcdefgh"),
    load=st.integers(0, 20),
    cached=st.integers(0, 200),
    waiting_tokens=st.integers(0, 5000),
    prefill_tokens_per_s=st.floats(1, 1e5),
    prefill_share=st.floats(0, 1),
    decoding=st.integers(0, 20),
    decode_base_s=st.floats(0, 0.1),
    decode_row_s=st.floats(0, 0.01),
)


def test_alone_on_an_idle_engine_a_request_costs_its_prompt_and_its_answer() -> None:
    assert cost_s(Plan(100, 10, QUICK)) == pytest.approx(0.100 + 10 * 0.003)


def test_what_is_cached_is_not_computed() -> None:
    assert cost_s(Plan(100, 0, replace(QUICK, cached=90))) == pytest.approx(0.010)
    assert cost_s(Plan(100, 0, replace(QUICK, cached=200))) == 0


def test_a_prompt_comes_after_those_that_wait_and_keeps_everybody_there_waiting() -> None:
    busy = replace(QUICK, waiting_tokens=50, load=3)

    assert cost_s(Plan(100, 0, busy)) == pytest.approx(0.050 + 0.100 + CROWD * 3 * 0.100)


def test_an_answer_takes_longer_beside_others() -> None:
    busy = replace(QUICK, decoding=4)

    assert cost_s(Plan(0, 10, busy)) == pytest.approx(10 * (0.002 + 5 * 0.001))


def test_prompts_that_are_still_to_come_slow_an_answer_down() -> None:
    assert cost_s(Plan(0, 10, QUICK), 0.5) == pytest.approx(2 * cost_s(Plan(0, 10, QUICK)))
    assert cost_s(Plan(0, 10, QUICK), 1.0) == pytest.approx(0.030 / (1 - FULL))


def test_a_prefiller_delays_its_own_and_the_decoder_computes_the_rest() -> None:
    prefill, decode = replace(QUICK, load=2), replace(OTHER, load=1, decoding=1)

    cost = cost_s(Plan(100, 0, decode, prefill, split=80))

    handing_over, besides = step_s(decode, 1), HANDING_OVER_STEPS * (2 + 1) * 0.002
    assert cost == pytest.approx(
        0.080 + handing_over + 0.020 + CROWD * (2 * 0.080 + 1 * 0.020 + besides)
    )


def test_a_slow_transfer_keeps_the_decoder_waiting() -> None:
    slow = replace(QUICK, transfer_bytes_per_s=1000.0, kv_bytes_per_token=10)

    assert cost_s(Plan(100, 0, OTHER, slow, split=80)) == pytest.approx(0.8 + 0.002 + 0.020)
    warm = replace(OTHER, cached=60)
    assert cost_s(Plan(100, 0, warm, slow, split=80)) == pytest.approx(0.2 + 0.002 + 0.020)


def test_an_even_split_ends_there_when_the_decoder_is_free_here() -> None:
    prefill, decode = replace(QUICK, waiting_tokens=30), replace(OTHER, waiting_tokens=100)

    assert even_split(500, prefill, decode) == 70
    assert even_split(500, replace(prefill, cached=64), decode) == 134


@given(st.integers(2, 2000), ENGINES, ENGINES)
def test_an_even_split_leaves_something_for_both(
    size: int, prefill: Engine, decode: Engine
) -> None:
    assert 1 <= even_split(size, prefill, decode) < size


def test_a_single_token_is_not_split() -> None:
    assert even_split(1, QUICK, replace(OTHER, waiting_tokens=100)) == 0


@given(ENGINES, st.integers(0, 2000), st.integers(0, 500), st.floats(0, 1))
def test_nothing_is_gained_by_more_work(
    engine: Engine, size: int, answer: int, share: float
) -> None:
    cost = cost_s(Plan(size, answer, engine), share)

    assert cost >= 0
    assert cost_s(Plan(size + 1, answer, engine), share) >= cost
    assert cost_s(Plan(size, answer + 1, engine), share) >= cost
    assert cost_s(Plan(size, answer, replace(engine, load=engine.load + 1)), share) >= cost


@given(st.lists(ENGINES, max_size=4, unique_by=lambda e: e.name))
def test_prompts_to_come_follow_those_that_were_and_fill_one_engine_first(
    engines: list[Engine],
) -> None:
    alone = [replace(engine, load=engine.decoding) for engine in engines]
    shares = prompt_shares(alone)

    total, full = sum(e.prefill_share for e in engines), LASTING * FULL**2
    assert set(shares) == {e.name for e in engines}
    assert sum(s == full for s in shares.values()) == min(len(engines), int(total / FULL))
    assert sum(0 < s < full for s in shares.values()) <= 1
    assert all(0 <= s <= full for s in shares.values())


def test_the_engine_that_has_computed_most_prompts_is_expected_to_get_more_of_them() -> None:
    busy, calm = replace(QUICK, prefill_share=0.4), replace(OTHER, prefill_share=0.3)

    assert prompt_shares([calm, busy]) == {
        "e0": pytest.approx(LASTING * 0.7**2),
        "e1": pytest.approx(0.0),
    }


def test_an_engine_that_prefills_for_others_now_is_expected_to_do_nothing_else() -> None:
    prefill = replace(QUICK, load=3, decoding=2)
    decode = replace(OTHER, load=2, decoding=2, prefill_share=0.5)

    assert prompt_shares([prefill, decode]) == {"e0": FULL, "e1": pytest.approx(LASTING * 0.5**2)}


def test_where_nothing_was_computed_yet_prompts_are_expected_at_prefillers() -> None:
    decode, prefill = replace(QUICK, role="decode"), replace(OTHER, role="prefill")

    assert list(prompt_shares([decode, prefill])) == ["e1", "e0"]


def test_who_has_not_computed_a_prompt_yet_is_taken_for_as_fast_as_the_fastest() -> None:
    unknown, slow = replace(OTHER, prefill_tokens_per_s=0.0), replace(OTHER, prefill_tokens_per_s=1)

    assert measured([QUICK, unknown, slow]) == [QUICK, OTHER, slow]
    assert measured([unknown]) == [unknown]
    assert measured([]) == []
