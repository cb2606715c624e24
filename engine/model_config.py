"""What kind of network a model is: its sizes and variants, read from a Hugging Face config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from .model_errors import BrokenModel, UnsupportedModel

Family: TypeAlias = Literal["llama", "qwen2", "qwen3"]

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


class LinearRope(Struct, frozen=True, tag=True):
    """Positions are divided by ``factor``."""

    factor: float


class Llama3Rope(Struct, frozen=True, tag=True):
    """Llama 3.1: only wavelengths long against the original context are stretched."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class FactorRope(Struct, frozen=True, tag=True):
    """Frequency ``i`` is divided by ``factors[i]``; how GGUF files keep Llama 3.1's scaling."""

    factors: tuple[float, ...]


RopeScaling: TypeAlias = LinearRope | Llama3Rope | FactorRope


class ModelConfig(Struct, frozen=True):
    """The sizes of one decoder-only network of the Llama kind."""

    family: Family
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

    @property
    def has_qk_norm(self) -> bool:
        """Whether every head's queries and keys are normalised before the rotation."""
        return self.family == "qwen3"


Size: TypeAlias = Annotated[int, Meta(ge=1)]


class _Rope(Struct, frozen=True):
    """The numbers of every kind of rotary embedding that is computed here."""

    rope_type: str | None = None
    type: str | None = None
    """What ``rope_type`` was called once."""
    rope_theta: float | None = None
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: Size | None = None
    short_factor: tuple[float, ...] | None = None
    long_factor: tuple[float, ...] | None = None
    attention_factor: float | None = None
    partial_rotary_factor: float = 1.0
    full_attention: dict[str, Any] | None = None
    sliding_attention: dict[str, Any] | None = None
    """Whole sets of numbers, in models whose layers differ."""

    @property
    def kind(self) -> str:
        return self.rope_type or self.type or "default"


class _Document(Struct, frozen=True):
    """The part of config.json that decides how to compute. Unknown keys are ignored."""

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
    use_sliding_window: bool = False
    layer_types: tuple[str, ...] | None = None
    partial_rotary_factor: float = 1.0
    quantization_config: dict[str, Any] | None = None
    rope_theta: float = 10_000.0
    rope_scaling: _Rope | None = None
    """Until transformers 4; ``rope_parameters`` took its place and holds ``rope_theta`` too."""
    rope_parameters: _Rope | None = None

    @property
    def rope(self) -> _Rope:
        return self.rope_parameters or self.rope_scaling or _Rope()


def read_config(path: Path) -> ModelConfig:
    """Read a config.json.

    Raises:
        BrokenModel: it is missing, not JSON, or lacks a size.
        UnsupportedModel: it asks for something that is not computed here.
    """
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except (OSError, msgspec.DecodeError) as error:
        raise BrokenModel(path, str(error)) from error
    _refuse_what_is_not_computed(document)
    config = _config(document)
    _check_sizes(path, config)
    return config


def _config(document: _Document) -> ModelConfig:
    num_heads = document.num_attention_heads
    return ModelConfig(
        family=_family(document),
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
        rope_scaling=_rope_scaling(document.rope),
    )


def _family(document: _Document) -> Family:
    for architecture in document.architectures:
        if architecture in FAMILIES:
            return FAMILIES[architecture]
    raise UnsupportedModel("architecture", ", ".join(document.architectures), FAMILIES)


def _refuse_what_is_not_computed(document: _Document) -> None:
    if document.hidden_act not in ("silu", "swish"):
        raise UnsupportedModel("activation", document.hidden_act, ["silu"])
    if document.use_sliding_window or set(document.layer_types or ()) - {"full_attention"}:
        raise UnsupportedModel(
            "attention", document.layer_types or "use_sliding_window", ["full_attention"]
        )
    part = document.partial_rotary_factor * document.rope.partial_rotary_factor
    if part != 1.0:
        raise UnsupportedModel("partial_rotary_factor", part, ["1.0"])
    if document.quantization_config is not None:
        method = document.quantization_config.get("quant_method", "unknown")
        raise UnsupportedModel("quantization", method, ["none", "GGUF files"])


def _rope_scaling(rope: _Rope) -> RopeScaling | None:
    match rope:
        case _Rope(full_attention=dict()) | _Rope(sliding_attention=dict()):
            raise UnsupportedModel("rope", "different for each type of layer", ["one for all"])
        case _Rope(kind="default"):
            return None
        case _Rope(kind="linear", factor=float(factor)):
            return LinearRope(factor)
        case _Rope(
            kind="llama3",
            factor=float(factor),
            low_freq_factor=float(low),
            high_freq_factor=float(high),
            original_max_position_embeddings=int(original),
        ):
            return Llama3Rope(factor, low, high, original)
        case _Rope(kind="longrope", short_factor=short, long_factor=long, attention_factor=1.0):
            # The one case of it that is a plain division of frequencies.
            if long is not None and short == long:
                return FactorRope(long)
    supported = ["default", "linear", "llama3", "each with all its numbers"]
    raise UnsupportedModel("rope scaling", rope.kind, supported)


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
