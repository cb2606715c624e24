"""Decisions are measured for every strategy."""

from __future__ import annotations

from bench import decisions
from orchestrations.registry import names


def test_a_transition_and_a_placement_of_every_strategy_are_measured() -> None:
    result = decisions.run()

    assert {f"{name}_transition_us" for name in names()} <= set(result.figures)
    assert {f"{name}_placement_us" for name in names()} <= set(result.figures)
    assert set(result.ratios) == set(result.targets)
