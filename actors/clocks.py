"""Whether the clocks of a fleet agree: traces place every span by the clock of its own machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from .diagnosis import Finding, fault, note, ok

AREA = "clocks"
NOTED_S = 0.05
"""From here on a child span may seem to begin before its parent."""
FAULTY_S = 1.0
ADVICE = "Keep them by NTP (chrony, systemd-timesyncd): traces place spans by each machine's clock."


class Asked(Struct, frozen=True):
    """Somebody's time, and when we asked and heard, in unix seconds of ours."""

    who: str
    sent_s: float
    heard_s: float
    theirs_s: float

    @property
    def ahead_s(self) -> float:
        """How far that clock is ahead of ours, if the answer took as long as the question."""
        return self.theirs_s - (self.sent_s + self.heard_s) / 2

    @property
    def sure_s(self) -> float:
        """What it is ahead or behind at the least, however the time was spent on the way."""
        return max(abs(self.ahead_s) - (self.heard_s - self.sent_s) / 2, 0.0)


def compared(asked: Iterable[Asked]) -> Iterator[Finding]:
    """One finding for all that agree with us, one for each that does not."""
    answers = sorted(asked, key=lambda one: one.who)
    agree = [one for one in answers if one.sure_s < NOTED_S]
    if agree:
        names, most_ms = (
            ", ".join(one.who for one in agree),
            max(abs(a.ahead_s) for a in agree) * 1e3,
        )
        yield ok(AREA, f"within {most_ms:.1f} ms of ours: {names}")
    for one in answers:
        if one.sure_s >= NOTED_S:
            where = "ahead of" if one.ahead_s > 0 else "behind"
            kind = fault if one.sure_s >= FAULTY_S else note
            yield kind(AREA, f"{one.who} is {abs(one.ahead_s):.3f} s {where} this machine", ADVICE)
