"""What kind of network a model is: its sizes and variants, read from a Hugging Face config.json."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from .config_document import ConfigDocument, read_document
from .model_errors import BrokenModel, UnsupportedModel
from .rope_scaling import FactorRope, RopeScaling, rope_scaling
from .supported import family_of


class ModelConfig(Struct, frozen=True):
    """The sizes of one decoder-only network of the Llama kind."""

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_epsilon: float
    rope_theta: float
    max_context: int
    tied_embeddings: bool
    rope_scaling: RopeScaling | None = None
    has_qk_norm: bool = False
    """Whether every head's queries and keys are normalised before the rotation."""
    windows: tuple[int | None, ...] = ()
    """For every layer: how many tokens each token looks back at, itself included; None for all."""


def read_config(path: Path) -> ModelConfig:
    """Read a config.json.

    Raises:
        BrokenModel: it is missing, not JSON, or lacks a size.
        UnsupportedModel: it asks for something that is not computed here.
    """
    document = read_document(path)
    _refuse_what_is_not_computed(document)
    config = _config(document)
    _check_sizes(path, config)
    return config


def _config(document: ConfigDocument) -> ModelConfig:
    num_heads, family = document.num_attention_heads, family_of(document.architectures)
    return ModelConfig(
        family=family.name,
        vocab_size=document.vocab_size,
        hidden_size=document.hidden_size,
        intermediate_size=document.intermediate_size,
        num_layers=document.num_hidden_layers,
        num_heads=num_heads,
        num_kv_heads=document.num_key_value_heads or num_heads,
        head_dim=document.head_dim or document.hidden_size // num_heads,
        norm_epsilon=document.rms_norm_eps,
        rope_theta=document.rope.rope_theta or document.rope_theta,
        max_context=document.max_position_embeddings,
        tied_embeddings=document.tie_word_embeddings,
        rope_scaling=rope_scaling(document.rope),
        has_qk_norm=family.has_qk_norm,
        windows=family.windows(document),
    )


def _refuse_what_is_not_computed(document: ConfigDocument) -> None:
    if document.hidden_act not in ("silu", "swish"):
        raise UnsupportedModel("activation", document.hidden_act, ["silu"])
    part = document.partial_rotary_factor * document.rope.partial_rotary_factor
    if part != 1.0:
        raise UnsupportedModel("partial_rotary_factor", part, ["1.0"])
    if document.quantization_config is not None:
        method = document.quantization_config.get("quant_method", "unknown")
        raise UnsupportedModel("quantization", method, ["none", "GGUF files"])


def _check_sizes(path: Path, config: ModelConfig) -> None:
    if config.num_heads % config.num_kv_heads:
        raise BrokenModel(
            path, f"{config.num_heads} query heads cannot share {config.num_kv_heads} KV heads"
        )
    if config.head_dim % 2:
        raise BrokenModel(path, f"head_dim {config.head_dim} is odd: it cannot be rotated in pairs")
    scaling = config.rope_scaling
    if isinstance(scaling, FactorRope) and len(scaling.factors) != config.head_dim // 2:
        raise BrokenModel(
            path, f"{len(scaling.factors)} rope factors for head_dim {config.head_dim}"
        )
