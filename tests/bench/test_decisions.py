"""Decisions are measured for every strategy."""

from __future__ import annotations

from bench import decisions
from orchestrations.registry import names


def test_a_transition_and_a_placement_of_every_strategy_are_measured_and_have_an_aim() -> None:
    result = decisions.run()

    wanted = {
        f"{name}_{what}"
        for name in names()
        for what in ("transition_of_20_us", "placement_of_200_us")
    }
    assert wanted == set(result.ratios) == set(result.targets)
