"""The kinds of rotary embedding that are computed here, and how a config.json spells them."""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import Struct

from .model_errors import UnsupportedModel


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

KINDS = ("default", "linear", "llama3", "each with all its numbers")


class RopeParameters(Struct, frozen=True):
    """The numbers of every kind, as they stand in a config.json."""

    rope_type: str | None = None
    type: str | None = None
    """What ``rope_type`` was called once."""
    rope_theta: float | None = None
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None
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


def rope_scaling(rope: RopeParameters) -> RopeScaling | None:
    """None where frequencies are what `ModelConfig.rope_theta` alone makes them.

    Raises:
        UnsupportedModel: it is of another kind, or one of its numbers is missing.
    """
    match rope:
        case RopeParameters(full_attention=dict()) | RopeParameters(sliding_attention=dict()):
            raise UnsupportedModel("rope", "different for each type of layer", ["one for all"])
        case RopeParameters(kind="default"):
            return None
        case RopeParameters(kind="linear", factor=float(factor)):
            return LinearRope(factor)
        case RopeParameters(
            kind="llama3",
            factor=float(factor),
            low_freq_factor=float(low),
            high_freq_factor=float(high),
            original_max_position_embeddings=int(original),
        ):
            return Llama3Rope(factor, low, high, original)
        case RopeParameters(
            kind="longrope", short_factor=short, long_factor=long, attention_factor=1.0
        ):
            # The one case of it that is a plain division of frequencies.
            if long is not None and short == long:
                return FactorRope(long)
    raise UnsupportedModel("rope scaling", rope.kind, KINDS)
