"""What our kernels can compute. Imports no torch, which takes seconds."""

from __future__ import annotations

from .backend import Backend
from .model_config import ModelConfig

LANES = 16
"""Columns of weights in a panel; heads are multiples of it."""
GROUP = 32
"""Quantised weights that share a scale."""
MAX_HEAD_DIM = 256
MAX_GROUP = 48
"""Query heads that may share a KV head."""


def obstacle(config: ModelConfig) -> str | None:
    """Why the kernels cannot compute a model; None where they can."""
    if config.head_dim % LANES or config.head_dim > MAX_HEAD_DIM:
        return f"head_dim {config.head_dim} is no multiple of {LANES} up to {MAX_HEAD_DIM}"
    group = config.num_heads // config.num_kv_heads
    if group > MAX_GROUP:
        return f"{group} query heads share a KV head, more than {MAX_GROUP}"
    return None


def why_torch(config: ModelConfig, backend: Backend) -> str | None:
    """Why the kernels are not even tried; None where they compute if they can be compiled."""
    if not backend.native:
        return "they are switched off"
    if (backend.device, backend.dtype) != ("cpu", "float32"):
        return f"they compute float32 on cpu, not {backend.dtype} on {backend.device}"
    return obstacle(config)
