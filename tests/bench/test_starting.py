"""Starting together and in turn, in a short form on engines that invent their tokens. Not timed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bench.starting import NoToken, Plan, first_token_s, measure, result
from bus.public import Done
from tests.system.fleet import fake_model, fleet


async def test_both_ways_are_measured_alone_and_beside_others() -> None:
    plan = Plan(pairs=3, prompt_tokens=32, beside=2)

    async with fleet(fake_model()) as system:
        seen = await measure(system.client, system.model, system.versions, plan)
        await system.idle()
        served = {r.orchestration for r in system.recorder.recordings}

    assert {what: len(times) for what, times in seen.items()} == {
        (how, strategy): 3
        for how in ("alone", "beside_others")
        for strategy in ("disaggregated", "in_turn")
    }
    assert served == {"disaggregated", "in_turn"}


def test_a_ratio_is_of_the_time_together_to_the_time_in_turn() -> None:
    seen = {
        ("alone", "disaggregated"): [1.0, 2.0, 9.0],
        ("alone", "in_turn"): [4.0, 4.0, 4.0],
        ("beside_others", "disaggregated"): [3.0],
        ("beside_others", "in_turn"): [2.0],
    }

    assert result(seen).ratios == {
        "ttft_together_vs_in_turn_alone": 0.5,
        "ttft_together_vs_in_turn_beside_others": 1.5,
    }


async def test_an_answer_without_a_token_is_no_measurement() -> None:
    async def failed() -> AsyncIterator[Done]:
        yield Done("f1", 0, "error", message="engine_lost")

    with pytest.raises(NoToken, match="engine_lost"):
        await first_token_s(failed())
