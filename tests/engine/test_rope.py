"""Rotary embeddings that transformers has no checkpoint to compare with."""

from __future__ import annotations

import msgspec
import pytest
import torch

from engine.model_config import ModelConfig
from engine.rope import inverse_frequencies, rotation
from engine.rope_scaling import FactorRope, Llama3Rope

CONFIG = ModelConfig(
    family="llama",
    vocab_size=8,
    hidden_size=64,
    intermediate_size=64,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=64,
    norm_epsilon=1e-6,
    rope_theta=5e5,
    max_context=131_072,
    tied_embeddings=True,
)


def test_factors_say_the_same_as_the_numbers_of_llama_3() -> None:
    """A GGUF file of Llama 3.1 keeps the quotients, its config.json the rule that makes them."""
    rule = msgspec.structs.replace(CONFIG, rope_scaling=Llama3Rope(8.0, 1.0, 4.0, 8192))
    quotients = inverse_frequencies(CONFIG) / inverse_frequencies(rule)
    factors = msgspec.structs.replace(CONFIG, rope_scaling=FactorRope(tuple(quotients.tolist())))

    torch.testing.assert_close(inverse_frequencies(factors), inverse_frequencies(rule))
    assert quotients.min() == pytest.approx(1.0)
    assert quotients.max() == pytest.approx(8.0)


def test_a_turn_keeps_lengths_and_depends_on_distance_only() -> None:
    frequencies = inverse_frequencies(CONFIG)
    query, key = torch.randn(2, 1, 1, 64, generator=torch.Generator().manual_seed(0)).unbind()

    def product(query_position: int, key_position: int) -> float:
        turns = (
            rotation(torch.tensor([position]), frequencies, torch.float32)
            for position in (query_position, key_position)
        )
        turned = [turn.turn(heads) for turn, heads in zip(turns, (query, key), strict=True)]
        assert turned[0].norm() == pytest.approx(float(query.norm()), rel=1e-5)
        return float((turned[0] * turned[1]).sum())

    assert product(107, 100) == pytest.approx(product(7, 0), abs=1e-4)
    assert product(107, 100) != pytest.approx(product(8, 0), abs=1e-2)
