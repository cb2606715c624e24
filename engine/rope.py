"""Rotary position embedding: a token's position turns pairs of numbers in its queries and keys.

Su et al., "RoFormer" (arXiv 2104.09864), in Hugging Face's order: number ``i`` of a head is paired
with number ``i + head_dim / 2``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from .model_config import ModelConfig
from .rope_scaling import FactorRope, LinearRope, Llama3Rope, RopeScaling


class Rotation(Struct, frozen=True):
    """The turn of every token of a batch: both ``[tokens, 1, head_dim]``."""

    cos: Tensor
    sin: Tensor

    def turn(self, heads: Tensor) -> Tensor:
        """Turn ``[tokens, heads, head_dim]``."""
        first, second = heads.chunk(2, dim=-1)
        return heads * self.cos + torch.cat((-second, first), dim=-1) * self.sin


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each pair, ``[head_dim / 2]``, float32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    return _scaled(1.0 / config.rope_theta**exponents, config.rope_scaling)


def rotation(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotation:
    """Computed in float32 and rounded once: positions above 256 do not fit bfloat16."""
    angles = positions.float()[:, None] * frequencies
    both = torch.cat((angles, angles), dim=-1)[:, None, :]
    return Rotation(both.cos().to(dtype), both.sin().to(dtype))


def steady_rotation(
    positions: NDArray[np.int64], frequencies: Tensor, dtype: torch.dtype, device: torch.device
) -> Rotation:
    """As `rotation`, each token's the same whatever others there are. Cosines and sines are not
    computed in float32, where a vector of them may differ from one alone in the last bit.
    ``frequencies`` are the host's."""
    angles = (positions.astype(np.float32)[:, None] * frequencies.numpy()).astype(np.float64)
    both = np.concatenate((angles, angles), axis=-1)[:, None, :]
    cosines, sines = (
        torch.from_numpy(it.astype(np.float32)) for it in (np.cos(both), np.sin(both))
    )
    return Rotation(cosines.to(device, dtype), sines.to(device, dtype))


def _scaled(frequencies: Tensor, scaling: RopeScaling | None) -> Tensor:
    match scaling:
        case None:
            return frequencies
        case LinearRope(factor=factor):
            return frequencies / factor
        case FactorRope(factors=factors):
            return frequencies / torch.tensor(factors)
        case Llama3Rope():
            return _llama3(frequencies, scaling)


def _llama3(frequencies: Tensor, scaling: Llama3Rope) -> Tensor:
    """Short waves stay, long ones are stretched, in between is blended.

    After ``_compute_llama3_parameters`` in transformers/modeling_rope_utils.py.
    """
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return frequencies * (keep + (1.0 - keep) / scaling.factor)
