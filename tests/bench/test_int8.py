"""The benchmark of int8 weights computes perplexity as transformers does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from bench.int8 import Plan, measure, texts
from engine.model_files import open_model
from tests.engine.checkpoints import tiny_checkpoint, tiny_model


def test_perplexity_is_that_of_transformers_and_rounding_moves_it_a_little(tmp_path: Path) -> None:
    files, model = open_model(str(tiny_checkpoint(tmp_path))), tiny_model("llama", 0)
    plan = Plan(num_texts=2, num_tokens=20, num_prompts=2)

    found = measure(files, plan)

    ids = torch.tensor(list(texts(files, plan)))
    with torch.inference_mode():
        logits = model(ids).logits[:, :-1]
    wanted = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).exp()
    assert found.figures["float32_perplexity"] == pytest.approx(float(wanted), rel=1e-3)
    assert found.ratios["int8_perplexity_vs_float32"] == pytest.approx(1, abs=0.2)
    assert found.ratios["int8_perplexity_vs_float32"] != 1
    assert float(found.figures["mean_divergence_nats"]) > 0
    assert found.figures["tokens"] == 2 * 19
