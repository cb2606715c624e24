"""What one may choose for a router or an engine."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from bus.fleet import Role


class RouterOptions(Struct, frozen=True):
    url: str
    name: str
    model: str | None = None
    """A GGUF file or a Hugging Face folder; None takes the default model."""
    orchestration: str = "disaggregated"
    stall_s: float = 120.0
    lifeline: bool = False


class EngineOptions(Struct, frozen=True):
    url: str
    name: str
    role: Role = "both"
    model: str | None = None
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kv_bytes: int = 1 << 30
    page_size: int = 16
    max_batch_tokens: int = 512
    threads: int = 0
    """That compute; 0 leaves torch's own choice."""
    weights: Literal["float32", "int8"] = "float32"
    kernels: bool = True
    """Our own, where they can be compiled and compute the model."""
    transport: Literal["ucx", "none"] = "ucx"
    lifeline: bool = False


class PoolTooSmall(Exception):
    """Not one KV page fits into the memory that was given."""

    def __init__(self, given_bytes: int, page_bytes: int) -> None:
        super().__init__(
            f"{given_bytes >> 20} MiB for KV hold no page: one takes {page_bytes / 2**20:.1f} MiB "
            "over all layers; give more --kv-mib or a smaller --page-size"
        )
        self.given_bytes, self.page_bytes = given_bytes, page_bytes
