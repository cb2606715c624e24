"""Who gives its pages up when they are short: always the last in rank, of those that can."""

from __future__ import annotations

from collections.abc import Iterator

from .context import Context
from .ranked import Ranked
from .sequence import Sequence


class GivingWay:
    """Those whose pages may be taken: work that waits or runs with pages, which is computed again
    later, and contexts that nobody computes on. Only chooses; whoever asks takes."""

    def __init__(self) -> None:
        self._sequences: Ranked[Sequence] = Ranked()
        self._idle: Ranked[Context] = Ranked()

    def add(self, sequence: Sequence) -> None:
        """Nothing happens where its pages cannot be computed again."""
        if sequence.preemptible:
            self._sequences.add(sequence)

    def discard(self, sequence: Sequence) -> None:
        self._sequences.discard(sequence)

    def rest(self, context: Context) -> None:
        self._idle.add(context)

    def unrest(self, context: Context) -> None:
        self._idle.discard(context)

    def idle(self) -> Iterator[Context]:
        yield from self._idle

    def later(self, wanting: Sequence) -> Sequence | Context | None:
        """The last in rank after ``wanting``; or else the last that nobody computes on, whatever
        its rank."""
        sequence = self._sequences.last
        if sequence and sequence.rank <= wanting.rank:
            sequence = None
        return _last(sequence, self._idle.last)

    def less_urgent(self, wanting: Sequence) -> Sequence | Context | None:
        """The last in rank, if its priority is lower than that of ``wanting``."""
        sequence, context = self._sequences.last, self._idle.last
        if sequence and not is_more_urgent(wanting, sequence):
            sequence = None
        if context and not is_more_urgent(wanting, context):
            context = None
        return _last(sequence, context)


def is_more_urgent(wanting: Sequence, other: Sequence | Context) -> bool:
    return wanting.rank.urgency < other.rank.urgency


def _last(sequence: Sequence | None, context: Context | None) -> Sequence | Context | None:
    if sequence and (context is None or sequence.rank > context.rank):
        return sequence
    return context
