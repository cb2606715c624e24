"""Qwen2 and Qwen2.5: biases on queries, keys and values; in some sizes a window in some layers."""

from engine.family import Family, window_in_some_layers

FAMILY = Family(
    name="qwen2",
    architecture="Qwen2ForCausalLM",
    models=("Qwen2", "Qwen2.5"),
    gguf="qwen2",
    windows=window_in_some_layers,
)
