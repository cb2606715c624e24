"""What the scheduler sees of a piece of work: tokens whose KV is missing, and what comes then."""

from __future__ import annotations

from typing import ClassVar

from .context import Context
from .outcomes import Phase
from .rank import Rank
from .runner import Choice, Row
from .trail import Trail


class Sequence:
    """Work on one command. The scheduler decides when and with which pages; `Generation` and
    `Sending` say what for."""

    verb: ClassVar[str]
    preemptible: ClassVar[bool]
    """Its pages may be taken away and computed again."""

    def __init__(self, key: tuple[str, int], context: Context, now: float) -> None:
        """``key`` is the flow and attempt that it belongs to."""
        self.key, self.context = key, context
        self.trail = Trail()
        self.decoding = False
        """Its prompt is computed: one token in every step from here on."""
        self.queued_s: float | None = now
        """Since when it waits to be admitted; None where it was."""

    @property
    def rank(self) -> Rank:
        return self.context.rank

    @property
    def num_matchable(self) -> int:
        """How many tokens may come from the prefix cache."""
        raise NotImplementedError

    def room_at_admission(self, chunk: int) -> int:
        """How many tokens must have pages when the work begins with ``chunk`` of them."""
        raise NotImplementedError

    def choices(self, begin: int, end: int) -> tuple[Choice, ...]:
        """What is to be known of what follows the last of the tokens ``[begin, end)``."""
        raise NotImplementedError

    def admitted(self, now: float) -> None:
        self._leave_queue(now)

    def break_off(self, now: float) -> tuple[Phase, ...]:
        """Nobody wants it any more: what it has spent its time on and not told."""
        self._leave_queue(now)
        return self.trail.take()

    def _leave_queue(self, now: float) -> None:
        if self.queued_s is not None:
            self.trail.add("queue", self.queued_s, now)
        self.queued_s = None

    def preempted(self, now: float) -> None:
        """Its pages are gone; it waits again, with all its tokens."""
        self.decoding = False
        self.queued_s = now

    @property
    def num_guesses(self) -> int:
        """How many tokens may be computed after its last one on the chance that they are next."""
        return 0

    def row(self, num_tokens: int, num_guesses: int = 0) -> Row:
        """Its next ``num_tokens``, and so many guesses after its last token."""
        assert num_guesses == 0
        begin = self.context.num_computed
        end = begin + num_tokens
        return Row(
            tokens=self.context.tokens[begin:end],
            position=begin,
            pages=self.context.table,
            choices=self.choices(begin, end),
            adapter=self.context.adapter,
        )

    def advance(self, num_tokens: int) -> None:
        """The KV of that many more tokens is in the pages, for others to find."""
        self.context.num_computed += num_tokens
        self.context.publish(self.context.num_computed)
