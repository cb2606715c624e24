"""One engine as its beats describe it, and what this router has there besides."""

from __future__ import annotations

from math import exp
from typing import Final

from msgspec import Struct

from bus.fleet import Engine
from bus.messages import Beat

UNLIMITED: Final = 1 << 30
SHARE_MEMORY_STEPS: Final = 128
"""Steps of decoding after which the share of time that went to prompts counts for a third: it is
asked for to say what an answer that begins now has to expect, and that is how long answers take."""
LEAST_SHARE_MEMORY_S: Final = 0.5
"""Beats do not come more often."""
LEAST_TOKENS_PER_S: Final = 1e-6
"""Slower is no measurement, and a prompt would take for ever there: what is computed from that is
no number."""


class Work(Struct, frozen=True):
    """What one flow has one engine do."""

    prompt_tokens: int = 0
    """That it was told to compute, and has not said that it has."""
    answers: int = 0
    """That it decodes, or will once their prompt is there."""


class KnownEngine(Struct):
    """Counts of ours are kept by whoever has it; those of others come from its beats."""

    beat: Beat
    heard_s: float
    flows: int = 0
    """Ours."""
    pages: int = 0
    """That ours may come to need."""
    others_load: int = 0
    others_pages: int = 0
    others_tokens: int = 0
    prompt_tokens: int = 0
    answers: int = 0
    prefill_share: float = 0.0
    """More than 1 for a while where a step ends that took longer than beats take to come."""
    is_full: bool = False
    """It said so, after its last beat."""

    def update(self, beat: Beat, now: float) -> None:
        self._share(beat, now)
        self.beat, self.heard_s, self.is_full = beat, now, False
        self.others_tokens = max(0, beat.waiting_tokens - self.prompt_tokens)
        self.others_load = max(0, beat.load - self.flows)
        self.others_pages = max(0, beat.total_pages - beat.free_pages - self.pages)

    def _share(self, beat: Beat, now: float) -> None:
        seconds, spent_s = now - self.heard_s, beat.prefill_s - self.beat.prefill_s
        if seconds <= 0 or spent_s < 0:  # a beat of another epoch
            return
        memory_s = max(LEAST_SHARE_MEMORY_S, SHARE_MEMORY_STEPS * beat.decode_step_s)
        keep = exp(-seconds / memory_s)
        self.prefill_share = keep * self.prefill_share + (1 - keep) * spent_s / seconds

    @property
    def slots(self) -> int:
        if self.is_full:
            return 0
        limit = self.beat.slots or UNLIMITED
        return max(0, limit - self.flows - self.others_load)

    @property
    def free_pages(self) -> int:
        return max(0, self.beat.total_pages - self.pages - self.others_pages)

    def engine(self) -> Engine:
        beat = self.beat
        return Engine(
            name=beat.engine,
            role=beat.role,
            load=self.flows + self.others_load,
            free_pages=self.free_pages,
            epoch=beat.epoch,
            waiting_tokens=self.prompt_tokens + self.others_tokens,
            decoding=self.answers + self.others_load,
            prefill_tokens_per_s=_measured(beat.prefill_tokens_per_s),
            prefill_share=min(1.0, self.prefill_share),
            decode_step_s=beat.decode_step_s,
            decode_base_s=beat.decode_base_s,
            decode_row_s=beat.decode_row_s,
            transfer_bytes_per_s=beat.transfer_bytes_per_s,
            kv_bytes_per_token=beat.kv_bytes_per_token,
            credits=self.slots,
            group=beat.group,
        )


def _measured(tokens_per_s: float) -> float:
    """0 where it is not known."""
    return tokens_per_s if tokens_per_s >= LEAST_TOKENS_PER_S else 0.0
