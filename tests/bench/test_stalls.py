"""The bound on the time between tokens is measured, in a short form."""

from __future__ import annotations

import math

import pytest

from bench import stalls
from engine.model_files import open_model
from tests.engine.checkpoints import tiny_checkpoint


def test_waits_are_measured_with_and_without_the_bound_while_prompts_arrive_and_come_back(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    files = open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))
    plan = stalls.Plan(
        num_decoding=2, num_prompts=1, prompt_tokens=100, num_rounds=1, threads=1, num_answered=60
    )

    result = stalls.measure(files, plan)

    assert set(result.ratios) == {"computed_p99_vs_bound", "restored_p99_vs_bound"}
    assert set(result.targets) == set(result.ratios)
    for name in ("free_computed", "free_restored", "bound_computed", "bound_restored"):
        assert (
            0 < float(result.figures[f"{name}_p50_ms"]) <= float(result.figures[f"{name}_max_ms"])
        )
        assert float(result.figures[f"{name}_first_token_ms"]) > 0
    assert result.figures["restored_tokens"] == 2 * 96
    assert all(math.isfinite(n) for n in result.figures.values() if not isinstance(n, str))
