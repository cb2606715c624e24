"""The fleet as the gateway knows it: every engine's newest beat."""

from __future__ import annotations

import contextlib

from bus.codec import Undecodable, decode
from bus.interface import Bus, Message
from bus.messages import Beat
from bus.subjects import Subjects

from ..clock import Clock
from ..roster import Roster


class Watcher:
    def __init__(self, bus: Bus, subjects: Subjects, clock: Clock) -> None:
        self._bus, self._subjects, self._clock = bus, subjects, clock
        self._roster = Roster()

    async def start(self) -> None:
        await self._bus.subscribe(self._subjects.every_beat, self._on_beat)

    def beats(self) -> list[Beat]:
        """Of the engines that are alive, by name."""
        for engine in self._roster.silent(self._clock()):
            self._roster = self._roster.without(engine)
        return [seen.beat for _, seen in sorted(self._roster.seen.items())]

    def models(self) -> list[str]:
        return sorted({beat.model for beat in self.beats()})

    async def _on_beat(self, message: Message) -> None:
        with contextlib.suppress(Undecodable):
            beat = decode(message.payload, Beat)
            self._roster, _ = self._roster.heard(beat, self._clock())
