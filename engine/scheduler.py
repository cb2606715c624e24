"""Which sequences the next step computes, and who gives way when pages are short."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import attrgetter

from msgspec import Struct

from .config import EngineConfig
from .context import Context
from .pages import Pages
from .rank import Rank
from .sequence import Sequence
from .statistics import Counters

_by_rank = attrgetter("rank")


class Work(Struct, frozen=True):
    """``num_tokens`` of a sequence in the next step; 0 where the cache had everything."""

    sequence: Sequence
    num_tokens: int
    is_new: bool


class Scheduler:
    """First come, first served, with continuous batching and chunked prefill.

    Every decoding sequence gets its token in every step; what is left of the batch goes to prompts
    in the order of arrival. Pages are taken as they are needed. When there are none, the latest
    comer gives its own up and computes them again later, so the first comer always gets on:
    nothing starves, and two halves never wait for each other. Three kinds of pages cannot be
    taken: those that a peer may write, those that a peer is sent, and those of a prefill that is
    being sent while it is computed, which therefore begins only with all the pages it needs.
    """

    def __init__(self, config: EngineConfig, pages: Pages, counters: Counters) -> None:
        self._config, self._pages, self._counters = config, pages, counters
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._idle: dict[Rank, Context] = {}
        self._stalled = False

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_pending_tokens(self) -> int:
        """Of prompts that are waited for, by those that run and those that do not yet."""
        prompts = (s for s in (*self._waiting, *self._running) if not s.decoding)
        return sum(sequence.context.num_pending for sequence in prompts)

    @property
    def has_work(self) -> bool:
        """`plan` may return something. After it returned nothing: not before the next `wake`."""
        return not self._stalled and bool(self._waiting or self._running)

    def wake(self) -> None:
        """Something happened: pages may have come back."""
        self._stalled = False

    def add(self, sequence: Sequence) -> None:
        insort(self._waiting, sequence, key=_by_rank)

    def remove(self, sequence: Sequence) -> None:
        """Whatever it was doing; its pages stay with it."""
        for queue in (self._waiting, self._running):
            if sequence in queue:
                queue.remove(sequence)

    def rest(self, context: Context) -> None:
        """Nobody computes on this context now: when pages are short, it may be dropped."""
        self._idle[context.rank] = context

    def unrest(self, context: Context) -> None:
        self._idle.pop(context.rank, None)

    def contexts(self) -> Iterator[Context]:
        yield from (sequence.context for sequence in (*self._waiting, *self._running))
        yield from self._idle.values()

    def plan(self, now: float) -> list[Work]:
        """The next batch, in order of arrival, its pages taken; at most ``max_batch_tokens``."""
        work = self._continued(now)
        budget = self._config.max_batch_tokens - sum(piece.num_tokens for piece in work)
        while budget > 0 and self._waiting and len(self._running) < self._config.max_running:
            piece = self._admitted(budget, now)
            if piece is None:
                break
            work.append(piece)
            budget -= piece.num_tokens
        self._stalled = not work
        return work

    def _continued(self, now: float) -> list[Work]:
        decoding = sum(sequence.decoding for sequence in self._running)
        budget = self._config.max_batch_tokens - decoding
        work: list[Work] = []
        for sequence in tuple(self._running):
            if sequence not in self._running:  # gave way to an earlier one
                continue
            size = 1 if sequence.decoding else self._chunk(sequence, budget)
            if size == 0 or not self._make_room(sequence, size, now):
                continue
            work.append(Work(sequence, size, is_new=False))
            budget -= 0 if sequence.decoding else size
        return work

    def _chunk(self, sequence: Sequence, budget: int) -> int:
        return min(sequence.context.num_pending, budget, self._config.prefill_chunk)

    # --- pages for a running sequence -----------------------------------------------------------

    def _make_room(self, sequence: Sequence, size: int, now: float) -> bool:
        context = sequence.context
        end = context.num_computed + size
        while context.missing(end) > self._pages.num_available:
            if not self._reclaim(sequence, now):
                self._preempt(sequence, now)
                return False
        context.grow(end)
        return True

    def _reclaim(self, wanting: Sequence, now: float) -> bool:
        """Take pages from the latest comer after ``wanting``, or else from an earlier one that
        nobody computes on. False: there is no such."""
        candidates = (s for s in (*self._running, *self._waiting) if s.preemptible)
        later = [s for s in candidates if s.rank > wanting.rank and s.context.num_pages]
        idle = [context for context in self._idle.values() if context.num_pages]
        sequence = max(later, key=_by_rank, default=None)
        context = max(idle, key=_by_rank, default=None)
        if sequence and (context is None or sequence.rank > context.rank):
            self._preempt(sequence, now)
        elif context:
            self._counters.forgone_contexts += 1
            context.drop()
        return bool(sequence or context)

    def _preempt(self, sequence: Sequence, now: float) -> None:
        assert sequence.preemptible
        self._counters.preemptions += 1
        self.remove(sequence)
        sequence.context.drop()
        sequence.preempted(now)
        self.add(sequence)

    # --- pages for a waiting sequence -----------------------------------------------------------

    def _admitted(self, budget: int, now: float) -> Work | None:
        sequence = self._waiting[0]
        if not self._find_room(sequence, now):
            return None
        size = self._chunk(sequence, budget)
        context = sequence.context
        context.grow(sequence.room_at_admission(context.num_computed + size))
        self._waiting.pop(0)
        insort(self._running, sequence, key=_by_rank)
        sequence.admitted(now)
        return Work(sequence, size, is_new=True)

    def _find_room(self, sequence: Sequence, now: float) -> bool:
        """Are there pages for all its tokens? Only where nobody runs, who would free some, are
        they taken from others. Asking for all avoids to begin what must give way at once."""
        context = sequence.context
        received = context.num_pages > 0
        if not received:
            context.match(sequence.num_matchable)
        while context.missing(context.num_tokens) > self._pages.num_available:
            if self._running or not self._reclaim(sequence, now):
                if not received:
                    context.drop()
                return False
        if not received:
            self._counters.matchable_tokens += sequence.num_matchable
            self._counters.matched_tokens += context.num_computed
        return True
