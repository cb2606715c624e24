"""What kind of network a model is: its sizes and variants, read from a Hugging Face config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

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


class _Document(Struct, frozen=True):
    """The part of config.json that decides how to compute. Unknown keys are ignored."""

    architectures: tuple[str, ...]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    use_sliding_window: bool = False
    layer_types: tuple[str, ...] | None = None
    partial_rotary_factor: float = 1.0
    quantization_config: dict[str, Any] | None = None
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None
    """Until transformers 4; ``rope_parameters`` took its place and holds ``rope_theta`` too."""
    rope_parameters: dict[str, Any] | None = None


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
    rope = document.rope_parameters or document.rope_scaling or {}
    head_dim = document.head_dim or document.hidden_size // document.num_attention_heads
    return ModelConfig(
        family=_family(document),
        vocab_size=document.vocab_size,
        hidden_size=document.hidden_size,
        intermediate_size=document.intermediate_size,
        num_layers=document.num_hidden_layers,
        num_heads=document.num_attention_heads,
        num_kv_heads=document.num_key_value_heads or document.num_attention_heads,
        head_dim=head_dim,
        norm_epsilon=document.rms_norm_eps,
        rope_theta=float(rope.get("rope_theta", document.rope_theta)),
        max_context=document.max_position_embeddings,
        tied_embeddings=document.tie_word_embeddings,
        rope_scaling=_rope_scaling(rope),
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
    if document.partial_rotary_factor != 1.0:
        raise UnsupportedModel("partial_rotary_factor", document.partial_rotary_factor, ["1.0"])
    if document.quantization_config is not None:
        method = document.quantization_config.get("quant_method", "unknown")
        raise UnsupportedModel("quantization", method, ["none", "GGUF files"])


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    try:
        match kind:
            case "default":
                return None
            case "linear":
                return msgspec.convert({**rope, "type": "LinearRope"}, LinearRope)
            case "llama3":
                return msgspec.convert({**rope, "type": "Llama3Rope"}, Llama3Rope)
            case "longrope" if _is_the_same_for_all_lengths(rope):
                return FactorRope(tuple(map(float, rope["long_factor"])))
    except msgspec.ValidationError as error:
        raise UnsupportedModel("rope scaling", rope, [f"{kind} with all its numbers"]) from error
    raise UnsupportedModel("rope scaling", kind, ["default", "linear", "llama3"])


def _is_the_same_for_all_lengths(rope: dict[str, Any]) -> bool:
    """The one case of ``longrope`` that is a plain division of frequencies."""
    return rope.get("short_factor") == rope["long_factor"] and rope.get("attention_factor") == 1.0


def _check_sizes(path: Path, config: ModelConfig) -> None:
    sizes = (config.vocab_size, config.hidden_size, config.intermediate_size, config.num_layers)
    heads = (config.num_heads, config.num_kv_heads, config.head_dim, config.max_context)
    if min(*sizes, *heads) < 1:
        raise BrokenModel(path, "a size is zero or negative")
    if config.num_heads % config.num_kv_heads:
        raise BrokenModel(
            path, f"{config.num_heads} query heads cannot share {config.num_kv_heads} KV heads"
        )
    if config.head_dim % 2:
        raise BrokenModel(path, f"head_dim {config.head_dim} is odd: it cannot be rotated in pairs")
