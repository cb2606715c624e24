"""Rates are those of what was done lately, not of all times and not of one moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.rates import Rate, Rates


def test_nothing_measured_is_nothing_known() -> None:
    rates = Rates()

    assert (rates.prefill_tokens_per_s, rates.decode_step_s, rates.transfer_bytes_per_s) == (0,) * 3


@given(st.floats(1e-3, 1e6), st.lists(st.floats(1e-4, 100), min_size=1, max_size=50))
def test_a_steady_rate_is_measured_exactly_whatever_the_samples(
    per_s: float, durations: list[float]
) -> None:
    rate = Rate()
    for seconds in durations:
        rate.add(per_s * seconds, seconds)

    assert rate.per_s == pytest.approx(per_s)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-4, 10)), min_size=1))
def test_a_rate_is_never_outside_of_its_samples(samples: list[tuple[float, float]]) -> None:
    rate = Rate()
    for amount, seconds in samples:
        rate.add(amount, seconds)

    rates = [amount / seconds for amount, seconds in samples]
    assert min(rates) * 0.999 <= rate.per_s <= max(rates) * 1.001


def test_what_was_long_ago_is_forgotten() -> None:
    rate = Rate(memory_s=1.0)
    rate.add(1000, 5.0)
    for _ in range(100):
        rate.add(1, 0.1)

    assert rate.per_s == pytest.approx(10, rel=0.01)


def test_a_moment_changes_little() -> None:
    rate = Rate(memory_s=10.0)
    rate.add(1000, 10.0)

    rate.add(0, 0.01)

    assert rate.per_s == pytest.approx(100, rel=0.01)


def test_a_transfer_that_took_no_time_says_nothing() -> None:
    rates = Rates()

    rates.sent(1000, 0.0)

    assert rates.transfer_bytes_per_s == 0


def test_of_a_mixed_step_the_prompts_get_what_answers_alone_would_not_have_taken() -> None:
    rates = Rates()
    rates.stepped(0, 4, 0.010)

    rates.stepped(100, 4, 0.110)

    assert rates.decode_step_s == pytest.approx(0.010)
    assert rates.prefill_tokens_per_s == pytest.approx(1000)


@given(st.floats(1e-6, 1e-2), st.lists(st.integers(16, 4096), min_size=1, max_size=50))
def test_a_prompt_s_tokens_all_cost_the_same_whatever_the_chunks(
    token_s: float, chunks: list[int]
) -> None:
    rates = Rates()
    for num_tokens in chunks:
        rates.stepped(num_tokens, 0, num_tokens * token_s)

    assert rates.prefill_tokens_per_s == pytest.approx(1 / token_s)


def test_an_engine_that_is_sent_all_but_the_last_token_does_not_take_itself_for_slow() -> None:
    rates = Rates()
    rates.stepped(0, 4, 0.003)
    for _ in range(1000):
        rates.stepped(1, 4, 0.0035)
    assert rates.prefill_tokens_per_s == 0  # nothing is known

    rates.stepped(512, 0, 0.064)
    for _ in range(1000):
        rates.stepped(1, 4, 0.0035)

    assert rates.prefill_tokens_per_s == pytest.approx(8000)


def test_the_short_end_of_a_prompt_says_little() -> None:
    rates = Rates()
    rates.stepped(512, 0, 0.064)

    for _ in range(20):
        rates.stepped(16, 0, 0.004)  # half of it is the step itself

    assert rates.prefill_tokens_per_s == pytest.approx(8000, rel=0.05)


@given(
    st.floats(1e-4, 0.1),
    st.floats(1e-5, 0.01),
    st.lists(st.integers(1, 64), min_size=20, max_size=60, unique=True),
)
def test_what_a_step_takes_anyway_is_told_from_what_each_answer_adds(
    base_s: float, row_s: float, batches: list[int]
) -> None:
    rates = Rates()
    for num in batches:
        rates.stepped(0, num, base_s + num * row_s)

    assert rates.decode_base_s == pytest.approx(base_s, abs=0.2 * row_s)
    assert rates.decode_row_s == pytest.approx(row_s, rel=0.02)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-4, 1)), min_size=1))
def test_a_step_is_never_cheaper_with_more_answers_nor_free(steps: list[tuple[int, float]]) -> None:
    rates = Rates()
    for num, seconds in steps:
        rates.stepped(0, num, seconds)

    assert rates.decode_base_s >= 0
    assert rates.decode_row_s >= 0
    assert rates.decode_base_s + rates.decode_row_s > 0


def test_steps_that_are_all_alike_say_nothing_of_one_answer_more() -> None:
    rates = Rates()
    for _ in range(10):
        rates.stepped(0, 8, 0.010)

    assert rates.decode_row_s == 0
    assert rates.decode_base_s == pytest.approx(0.010)


def test_the_time_for_prompts_adds_up() -> None:
    rates = Rates()
    rates.stepped(0, 4, 0.010)
    rates.stepped(100, 4, 0.110)
    rates.stepped(100, 0, 0.050)

    assert rates.prefill_s == pytest.approx(0.150)
