"""What all answers of one request come to."""

from __future__ import annotations

from msgspec.structs import replace

from bus.messages import FinishReason, Usage

from .outcomes import Phase


class Answers:
    """Shared by the answers of a request; it is complete when the last of them has ended."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._phases: tuple[Phase, ...] = ()
        self._usages: dict[int, Usage] = {}
        self._reasons: list[FinishReason] = []

    @property
    def is_complete(self) -> bool:
        return len(self._reasons) == self.count

    def end(
        self, choice: int, reason: FinishReason, usage: Usage, phases: tuple[Phase, ...]
    ) -> None:
        self._usages[choice] = usage
        self._reasons.append(reason)
        self._phases += phases

    def take(self) -> tuple[Phase, ...]:
        """What those that have ended spent their time on; each is told once."""
        phases, self._phases = self._phases, ()
        return phases

    @property
    def reason(self) -> FinishReason:
        """``length`` where any answer was cut off."""
        return "length" if "length" in self._reasons else "stop"

    @property
    def usage(self) -> Usage:
        """The prompt counts once: the first answer had it computed. Decoding lasted as long as for
        the answer that took longest."""
        usages = self._usages.values()
        return replace(
            self._usages[0],
            completion_tokens=sum(usage.completion_tokens for usage in usages),
            decode_s=max(usage.decode_s for usage in usages),
        )
