"""What sets a family of models apart from the others: all that must be said to add one.

Every family is a decoder-only transformer of the Llama kind (`engine.decoder`): root mean square
norms, rotary embeddings, grouped queries, gated feed-forward layers with SiLU. Biases need no word
here, they are there where a checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec import UNSET, Struct

from .config_document import ConfigDocument
from .model_errors import UnsupportedModel

Windows: TypeAlias = tuple[int | None, ...]
"""For every layer: how many tokens each token looks back at, itself included; None for all."""

FULL, SLIDING = "full_attention", "sliding_attention"


def all_tokens(document: ConfigDocument) -> Windows:
    """No layer has a window.

    Raises:
        UnsupportedModel: the document wants one nevertheless.
    """
    if document.use_sliding_window or set(document.layer_types or ()) - {FULL}:
        given = document.layer_types or "use_sliding_window"
        raise UnsupportedModel("attention", given, [FULL])
    return (None,) * document.num_hidden_layers


def window_everywhere(document: ConfigDocument) -> Windows:
    """Every layer has the same window, or none where ``sliding_window`` is null."""
    window = document.sliding_window
    # What transformers takes where nothing is written.
    size = 4096 if window is UNSET else window
    return (size,) * document.num_hidden_layers


def window_in_some_layers(document: ConfigDocument) -> Windows:
    """Layers that ``layer_types`` names, or those from ``max_window_layers`` on."""
    window = document.sliding_window
    if not document.use_sliding_window or not isinstance(window, int):
        return all_tokens(document)
    types = document.layer_types or [
        SLIDING if layer >= document.max_window_layers else FULL
        for layer in range(document.num_hidden_layers)
    ]
    if set(types) - {FULL, SLIDING} or len(types) != document.num_hidden_layers:
        raise UnsupportedModel("layer_types", types, [FULL, SLIDING, "one for each layer"])
    return tuple(window if kind == SLIDING else None for kind in types)


class Family(Struct, frozen=True):
    """One architecture. ``engine/families/`` has a file with a ``FAMILY`` for each."""

    name: str
    architecture: str
    """What a config.json calls it."""
    models: tuple[str, ...]
    """Those known to belong to it, for people to read."""
    gguf: str
    """What a GGUF file calls it."""
    gguf_has_window: bool = False
    """Of those with this name in GGUF files, it is the one with ``attention.sliding_window``."""
    gguf_rotates_neighbours: bool = False
    """GGUF files hold query and key rows in another order, as llama.cpp rotates Llama."""
    has_qk_norm: bool = False
    """Every head's queries and keys are normalised before the rotation."""
    windows: Callable[[ConfigDocument], Windows] = all_tokens
