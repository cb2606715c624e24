"""What one may choose for a router or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from bus.fleet import Role
from engine.kv_memory import KvMemory, Share, Size

Address: TypeAlias = tuple[str, int]
"""Host and port."""

DEFAULT_KV_MEMORY = Share(0.4)
"""Two engines of one machine leave it some room. A page takes memory when it is first used."""


class RouterOptions(Struct, frozen=True):
    url: str
    name: str
    model: str | None = None
    """A GGUF file or a Hugging Face folder; None takes the default model."""
    orchestration: str = "disaggregated"
    stall_s: float = 120.0
    metrics: Address | None = None
    """Where Prometheus may read; None: nowhere."""
    lifeline: bool = False


class GatewayOptions(Struct, frozen=True):
    url: str
    name: str
    model: str | None = None
    """As a router's; its tokenizer spells the tokens of log-probabilities."""
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    lifeline: bool = False


class EngineOptions(Struct, frozen=True):
    url: str
    name: str
    role: Role = "both"
    model: str | None = None
    adapters: tuple[tuple[str, str], ...] = ()
    """LoRA adapters that requests may ask for: name and PEFT folder."""
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kv_memory: KvMemory = DEFAULT_KV_MEMORY
    """For KV pages."""
    tier: Size = Size(0)
    """For pages that are evicted from there."""
    tier_file: Path | None = None
    """Where those are kept; None: in memory, as long as the engine lives."""
    pin: tuple[str, ...] = ()
    """Beginnings of prompts that are never evicted."""
    page_size: int = 16
    max_batch_tokens: int = 512
    inter_token_s: float | None = None
    """How long a request that is being answered may wait for its next token while prompts of
    others are computed; None takes whole batches."""
    draft_tokens: int = 0
    """So many tokens of an answer are guessed and verified in a step; 0 guesses nothing."""
    threads: int = 0
    """That compute; 0 leaves torch's own choice."""
    group: str = ""
    """Whom it is for, such as a topic or a tenant; empty is everybody."""
    weights: Literal["float32", "int8"] = "float32"
    kernels: bool = True
    """Our own, where they can be compiled and compute the model."""
    invariant: bool = True
    """The same tokens whatever else is computed, where torch computes, too, and what that costs."""
    transport: Literal["ucx", "none"] = "ucx"
    kv_checksums: bool = False
    """Whether KV that it receives, or sends, is checked before it is used."""
    kv_max_bytes_per_s: float | None = None
    """Of the link's, what all its transfers together may take; None: all of it."""
    metrics: Address | None = None
    """Where Prometheus may read; None: nowhere."""
    lifeline: bool = False
