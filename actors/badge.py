"""An engine's heartbeat: what it is, and what its statistics say of now."""

from __future__ import annotations

from msgspec import Struct

from bus.compatibility import Compatibility
from bus.fleet import Role
from bus.messages import Beat
from engine.statistics import EngineStatistics


class Badge(Struct, frozen=True):
    """What does not change while an engine lives."""

    engine: str
    epoch: int
    model: str
    role: Role
    page_size: int
    max_context: int
    compatibility: str
    slots: int
    """Requests that it computes at once."""
    kv_bytes_per_token: int = 0
    group: str = ""
    adapters: tuple[str, ...] = ()
    kv: Compatibility | None = None

    def beat(self, now: EngineStatistics, cache_sequence: int = 0) -> Beat:
        return Beat(
            engine=self.engine,
            epoch=self.epoch,
            model=self.model,
            role=self.role,
            load=now.load,
            free_pages=now.available_pages,
            total_pages=now.total_pages,
            page_size=self.page_size,
            max_context=self.max_context,
            compatibility=self.compatibility,
            slots=self.slots,
            kv_bytes_per_token=self.kv_bytes_per_token,
            group=self.group,
            waiting_tokens=now.waiting_tokens,
            prefill_s=now.prefill_s,
            prefill_tokens_per_s=now.prefill_tokens_per_s,
            decode_step_s=now.decode_step_s,
            decode_base_s=now.decode_base_s,
            decode_row_s=now.decode_row_s,
            transfer_bytes_per_s=now.transfer_bytes_per_s,
            cache_sequence=cache_sequence,
            adapters=self.adapters,
            waiting=now.waiting + now.expecting,
            running=now.running,
            cached_pages=now.cached_pages,
            granted_pages=now.granted_pages,
            sending=now.sending,
            prefill_tokens=now.prefill_tokens,
            decode_tokens=now.decode_tokens,
            matched_tokens=now.matched_tokens,
            kv=self.kv,
        )
