"""What engines say of themselves to all routers: how they are, and what they have cached."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from .compatibility import Compatibility
from .fleet import Role

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Measured: TypeAlias = Annotated[float, Meta(ge=0, le=1e15)]
"""Seconds, or amounts per second. Nothing that is not a number gets in: it is neither less nor more
than anything, and engines are kept in order by what they measure."""


class Beat(Struct, frozen=True):
    """An engine's heartbeat, twice a second: who it is, what it can do, how busy it is.

    One that says what cannot be, such as a rate that is not a number, does not decode.
    """

    engine: str
    epoch: int
    """Larger after every restart; an order or grant for another epoch is stale."""
    model: str
    role: Role
    load: Count
    """Requests waiting or running."""
    free_pages: Count
    total_pages: Count
    page_size: Annotated[int, Meta(ge=1)]
    max_context: Count
    compatibility: str
    """Equal for engines that can exchange pages, and for no others."""
    leaving: bool = False
    """The last beat: the engine is shutting down in good order."""
    slots: Count = 0
    """Requests that it computes at once; 0 where it does not say."""
    waiting_tokens: Count = 0
    """Of prompts that it has still to compute."""
    prefill_s: Measured = 0.0
    """Spent on prompts in this epoch so far: two beats tell which share of the time that is."""
    prefill_tokens_per_s: Measured = 0.0
    """Rates are measured by the engine in its last seconds of work; 0 where there was none yet."""
    decode_step_s: Measured = 0.0
    """Of a step that computes answers only."""
    decode_base_s: Measured = 0.0
    """Of such a step, what it takes whatever the number of answers."""
    decode_row_s: Measured = 0.0
    """What each answer adds to it."""
    transfer_bytes_per_s: Measured = 0.0
    """Of what it sent, while bytes moved."""
    kv_bytes_per_token: Count = 0
    group: str = ""
    """Whom it is for, such as a topic or a tenant; empty is everybody."""
    cache_sequence: Count = 0
    """Of the newest `CacheChanged`; 0 where it publishes none."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that it was started with, in order of names."""
    kv: Compatibility | None = None
    """What ``compatibility`` is made of, to tell in words what differs."""
    waiting: Count = 0
    """Of ``load``, requests that wait for pages, for KV that is on its way, or for their turn."""
    running: Count = 0
    """Of ``load``, sequences that the next step computes: the batch."""
    cached_pages: Count = 0
    """Of ``free_pages``, those that are kept for reuse until they are needed."""
    granted_pages: Count = 0
    """Reserved, for another engine to write. The rest is in use."""
    sending: Count = 0
    """Transfers out of here that go on."""
    prefill_tokens: Count = 0
    """Counts, since the engine was started: of prompts, and of answers."""
    decode_tokens: Count = 0
    matched_tokens: Count = 0
    """Of prompts, found in the prefix cache instead of being computed."""

    @property
    def used_pages(self) -> int:
        return max(0, self.total_pages - self.free_pages - self.granted_pages)

    @property
    def credits(self) -> int:
        """Requests that it would begin with at once."""
        return max(0, self.slots - self.load)


class CacheChanged(Struct, frozen=True):
    """Pages that came into an engine's prefix cache and pages that left it, as packed hashes of
    `bus.prefixes`. Whoever misses a number asks for a snapshot, which is the next one in the row
    with ``reset``: what was told before is void."""

    engine: str
    epoch: int
    sequence: int
    """1, 2, 3, ... in one epoch."""
    stored: bytes = b""
    evicted: bytes = b""
    reset: bool = False
