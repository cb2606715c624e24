"""An engine as somebody sees it who looks at the fleet: one row, from its beats."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from bus.fleet import Role
from bus.messages import Beat

Status: TypeAlias = Literal["alive", "lost", "left"]
"""``left`` said goodbye; ``lost`` did not."""

RATE_OVER_BEATS: Final = 6
"""Rates are over the last beats, three seconds of them: steadier than between two."""


class EngineRow(Struct, frozen=True, array_like=True, gc=False):
    """What is shown of one engine. Every page is in exactly one of free, cached, granted, used."""

    name: str
    model: str
    role: Role
    group: str
    status: Status
    waiting: int
    """Requests in its queue."""
    running: int
    """Sequences in its batch."""
    slots: int
    waiting_tokens: int
    """Of prompts, to be computed yet."""
    total_pages: int
    free_pages: int
    cached_pages: int
    granted_pages: int
    used_pages: int
    prefill_per_s: float
    """Tokens that it really computed in the last seconds: nothing, where it had nothing to do."""
    decode_per_s: float
    matched_per_s: float
    """Tokens of prompts that it found in its cache."""
    step_s: float
    """Of a step that decodes."""
    sending: int
    transfer_bytes_per_s: float
    """While bytes moved."""


class EngineSeen:
    """One engine's beats, newest last."""

    def __init__(self) -> None:
        self.status: Status = "alive"
        self.changed_s = 0.0
        """When it was heard last, or was taken for lost."""
        self._beats: deque[tuple[float, Beat]] = deque(maxlen=RATE_OVER_BEATS)

    def heard(self, beat: Beat, now: float) -> bool:
        """False where the beat is of an incarnation that is over."""
        if self._beats and beat.epoch < self._beats[-1][1].epoch:
            return False
        if self._beats and beat.epoch > self._beats[-1][1].epoch:
            self._beats.clear()
        self._beats.append((now, beat))
        self.status, self.changed_s = "left" if beat.leaving else "alive", now
        return True

    def lose(self, now: float) -> None:
        self.status, self.changed_s = "lost", now

    def row(self) -> EngineRow:
        beat = self._beats[-1][1]
        return EngineRow(
            beat.engine,
            beat.model,
            beat.role,
            beat.group,
            self.status,
            beat.waiting,
            beat.running,
            beat.slots,
            beat.waiting_tokens,
            beat.total_pages,
            max(0, beat.free_pages - beat.cached_pages),
            beat.cached_pages,
            beat.granted_pages,
            beat.used_pages,
            self._per_s("prefill_tokens"),
            self._per_s("decode_tokens"),
            self._per_s("matched_tokens"),
            beat.decode_step_s,
            beat.sending,
            beat.transfer_bytes_per_s,
        )

    def _per_s(self, count: str) -> float:
        (begin_s, first), (end_s, last) = self._beats[0], self._beats[-1]
        if self.status != "alive" or end_s <= begin_s:
            return 0.0
        made: int = getattr(last, count) - getattr(first, count)
        return round(made / (end_s - begin_s), 1)
