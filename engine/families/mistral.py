"""Mistral: Llama, but a token looks back only so far.

llama.cpp calls it ``llama``, too; a file of that name with a window is taken for this family.
"""

from engine.family import Family, window_everywhere

FAMILY = Family(
    name="mistral",
    architecture="MistralForCausalLM",
    models=("Mistral 7B",),
    gguf="llama",
    gguf_has_window=True,
    gguf_rotates_neighbours=True,
    windows=window_everywhere,
)
