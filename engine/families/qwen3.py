"""Qwen3: every head's queries and keys are normalised."""

from engine.family import Family, window_in_some_layers

FAMILY = Family(
    name="qwen3",
    architecture="Qwen3ForCausalLM",
    models=("Qwen3",),
    gguf="qwen3",
    has_qk_norm=True,
    windows=window_in_some_layers,
)
