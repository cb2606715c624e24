"""Whether the first that waits may begin: a slot, the pages for all it has, its prefix at hand."""

from __future__ import annotations

from .floor import Floor, Work
from .giving_way import is_more_urgent
from .pace import Pace
from .restoring import Restoring
from .sequence import Sequence


class Admitting:
    def __init__(self, floor: Floor, pace: Pace, restoring: Restoring) -> None:
        self._floor, self._pace, self._restoring = floor, pace, restoring

    def next(self, now: float) -> Work | None:
        """The first of them begins, unless there is no room."""
        sequence = self._floor.waiting.first
        if sequence is None or self._floor.budget <= 0 or not self._may_run(sequence):
            return None
        if not self._find_room(sequence, now):
            return None
        self._clear_slot(now)
        context, size = sequence.context, self._floor.chunk(sequence)
        context.grow(sequence.room_at_admission(context.num_computed + size))
        self._floor.run(sequence, now)
        self._floor.budget -= size
        return Work(sequence, size, is_new=True)

    def _may_run(self, sequence: Sequence) -> bool:
        """There is a slot, or a less urgent one has it and can leave it."""
        if len(self._floor.running) < self._floor.config.max_running:
            return True
        last = self._floor.running.last
        return last is not None and last.preemptible and is_more_urgent(sequence, last)

    def _clear_slot(self, now: float) -> None:
        if len(self._floor.running) >= self._floor.config.max_running:
            last = self._floor.running.last
            assert last is not None
            self._floor.preempt(last, now)

    def _find_room(self, sequence: Sequence, now: float) -> bool:
        """Are there pages for all its tokens? Where somebody runs, who will free some, they are
        taken from the less urgent only. Asking for all avoids to begin what must give way at
        once."""
        context = sequence.context
        if self._is_still_blocked(sequence):
            return False
        received = context.num_pages > 0
        if not received:
            context.match(sequence.num_matchable)
        giver = self._floor.giving.less_urgent if self._floor.running else self._floor.giving.later
        while context.missing(context.num_tokens) > self._floor.pages.num_available:
            if not self._floor.take(giver(sequence), now):
                self._turn_away(sequence, received)
                return False
        if not received and not self._is_restored(sequence):
            return False
        if not received:
            self._floor.counters.matchable_tokens += sequence.num_matchable
            self._floor.counters.matched_tokens += context.num_computed
        return True

    def _is_restored(self, sequence: Sequence) -> bool:
        """Bring back what the second tier has of it; where that is not all, it waits until the next
        step, and holds nothing."""
        context, before = sequence.context, self._restoring.num_tokens
        is_whole = self._restoring.restore(context, sequence.num_matchable)
        worth = self._pace.worth_of_restored(self._restoring.num_tokens - before)
        self._floor.budget = max(1, self._floor.budget - worth)
        if not is_whole:
            context.drop()
        return is_whole

    def _turn_away(self, sequence: Sequence, received: bool) -> None:
        context = sequence.context
        lacking = context.missing(context.num_tokens) - self._floor.pages.num_available
        if not received:
            context.drop()
        self._floor.waiting.turn_away(sequence, self._floor.pages.num_available + lacking)

    def _is_still_blocked(self, sequence: Sequence) -> bool:
        """It was turned away, and no page has come back since: to match its prompt once more in
        every step would be for nothing."""
        return (
            bool(self._floor.running)
            and self._floor.waiting.is_turned_away(sequence, self._floor.pages.num_available)
            and self._floor.giving.less_urgent(sequence) is None
        )
