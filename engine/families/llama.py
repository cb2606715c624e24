"""Llama and everything that is built like it."""

from engine.family import Family

FAMILY = Family(
    name="llama",
    architecture="LlamaForCausalLM",
    models=("Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "SmolLM2", "TinyLlama"),
    gguf="llama",
    gguf_rotates_neighbours=True,
)
