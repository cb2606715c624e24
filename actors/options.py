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
    kv_bytes: int = 1 << 30
    page_size: int = 16
    max_batch_tokens: int = 512
    inter_token_s: float | None = None
    """How long a request that is being answered may wait for its next token while prompts of
    others are computed; None takes whole batches."""
    draft_tokens: int = 0
    """So many tokens of an answer are guessed and verified in a step; 0 guesses nothing."""
    threads: int = 0
    """Torch threads; 0 leaves torch's own choice."""
    group: str = ""
    """Whom it is for, such as a topic or a tenant; empty is everybody."""
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
