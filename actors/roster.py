"""Which engines are alive: a fold of their heartbeats, as a value."""

from __future__ import annotations

from msgspec import Struct

from bus.messages import Beat

BEAT_INTERVAL_S = 0.5
LOST_AFTER_S = 3 * BEAT_INTERVAL_S + 0.25
"""Three beats missing, and some room for a slow one."""


class Seen(Struct, frozen=True):
    beat: Beat
    at_s: float


class Roster(Struct, frozen=True):
    """The engines as their last beats described them. Every change makes a new roster."""

    seen: dict[str, Seen] = {}

    def heard(self, beat: Beat, now: float) -> tuple[Roster, bool]:
        """The roster after a beat, and whether an incarnation of this engine has ended by it.

        A beat of an epoch that is over changes nothing.
        """
        known = self.seen.get(beat.engine)
        if known and beat.epoch < known.beat.epoch:
            return self, False
        if beat.leaving:
            return self.without(beat.engine), known is not None
        ended = known is not None and beat.epoch > known.beat.epoch
        return Roster({**self.seen, beat.engine: Seen(beat, now)}), ended

    def silent(self, now: float) -> list[str]:
        """The engines that have been quiet for too long."""
        return [name for name, s in self.seen.items() if now - s.at_s > LOST_AFTER_S]

    def excused(self, seconds: float) -> Roster:
        """The same engines, for so long not to be blamed for: it was us who did not listen."""
        later = {name: Seen(s.beat, s.at_s + seconds) for name, s in self.seen.items()}
        return Roster(later)

    def without(self, engine: str) -> Roster:
        return Roster({name: s for name, s in self.seen.items() if name != engine})

    def epoch(self, engine: str) -> int:
        """The engine's incarnation; 0 where it is not known."""
        return self.seen[engine].beat.epoch if engine in self.seen else 0

    def models(self) -> list[str]:
        return sorted({s.beat.model for s in self.seen.values()})
