"""What types of KV and the same bits in every batch cost is measured, in a short form."""

from __future__ import annotations

import math

import pytest

from bench import invariance, kv_dtypes
from bench.report import Result
from engine.model_files import ModelFiles, open_model
from tests.engine.checkpoints import tiny_checkpoint

SHORT = kv_dtypes.Plan(num_prompts=2, prompt_tokens=20, num_tokens=3, num_rounds=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return open_model(str(tiny_checkpoint(tmp_path_factory.mktemp("tiny"))))


def numbers(result: Result) -> list[float]:
    found = [*result.ratios.values(), *result.figures.values()]
    return [number for number in found if not isinstance(number, str)]


def test_types_of_kv_are_compared_in_memory_speed_and_tokens(files: ModelFiles) -> None:
    result = kv_dtypes.measure(files, SHORT)

    assert result.ratios["bfloat16_kv_bytes_per_token_vs_float32"] == 0.5
    assert result.ratios["float16_kv_bytes_per_token_vs_float32"] == 0.5
    assert set(result.targets) <= set(result.ratios)
    assert result.figures["float32_same_tokens_as_float32"] == 1.0
    for dtype in kv_dtypes.DTYPES:
        assert 0 <= float(result.figures[f"{dtype}_same_tokens_as_float32"]) <= 1
        assert float(result.figures[f"{dtype}_prefill_tokens_per_s"]) > 0
    assert all(math.isfinite(number) for number in numbers(result))


def test_the_same_bits_in_every_batch_are_compared_with_any(files: ModelFiles) -> None:
    result = invariance.measure(files, (SHORT,))

    assert set(result.ratios) == {"prefill_20_invariant_vs_free", "decode_b2_invariant_vs_free"}
    assert all(math.isfinite(number) and number > 0 for number in numbers(result))
