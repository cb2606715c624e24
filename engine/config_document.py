"""A Hugging Face config.json as it is written: the part of it that decides how to compute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from .model_errors import BrokenModel
from .rope_scaling import RopeParameters

Size: TypeAlias = Annotated[int, Meta(ge=1)]


class ConfigDocument(Struct, frozen=True):
    """Unknown keys are ignored."""

    architectures: tuple[str, ...]
    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Size
    num_attention_heads: Size
    num_key_value_heads: Size | None = None
    head_dim: Size | None = None
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: Size = 2048
    tie_word_embeddings: bool = False
    sliding_window: Size | UnsetType | None = UNSET
    use_sliding_window: bool = False
    max_window_layers: int = 28
    layer_types: tuple[str, ...] | None = None
    partial_rotary_factor: float = 1.0
    quantization_config: dict[str, Any] | None = None
    rope_theta: float = 10_000.0
    rope_scaling: RopeParameters | None = None
    """Until transformers 4; ``rope_parameters`` took its place and holds ``rope_theta`` too."""
    rope_parameters: RopeParameters | None = None

    @property
    def rope(self) -> RopeParameters:
        return self.rope_parameters or self.rope_scaling or RopeParameters()


def read_document(path: Path) -> ConfigDocument:
    """
    Raises:
        BrokenModel: it is missing, not JSON, or lacks a size.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=ConfigDocument)
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error
