"""Which sequences the next step computes, and who gives way when pages are short."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from .config import EngineConfig
from .context import Context
from .pace import Pace
from .pages import Pages
from .rank import Rank
from .ranked import Ranked
from .sequence import Sequence
from .statistics import Counters

_by_rank = attrgetter("rank")


class Work(Struct, frozen=True):
    """``num_tokens`` of a sequence in the next step; 0 where the cache had everything."""

    sequence: Sequence
    num_tokens: int
    is_new: bool
    num_guesses: int = 0
    """Tokens after those that may turn out to be its next ones."""


class _Blocked(Struct, frozen=True):
    """Who waits first and was turned away, and how many pages must be available to try again."""

    rank: Rank
    wanted: int


class Scheduler:
    """By rank, with continuous batching and chunked prefill.

    Every decoding sequence gets its token in every step; what is left of the batch, and of the time
    that those who decode may be kept waiting, goes to prompts in the order of rank: the more urgent
    first, then the first comer. Pages are taken as they are needed. When there are none, the last
    in rank gives its own up and computes them again later, so the first in rank always gets on:
    none of equal priority starves, and two halves never wait for each other. Three kinds of pages
    cannot be taken: those that a peer may write, those that a peer is sent, and those of a prefill
    that is being sent while it is computed, which therefore begins only with all the pages it
    needs.

    A step costs time in what it computes, not in how many wait, rest or are cached.
    """

    def __init__(self, config: EngineConfig, pages: Pages, counters: Counters) -> None:
        self._config, self._pages, self._counters = config, pages, counters
        self._pace = Pace(config.inter_token_s, pages.page_size)
        self._waiting: Ranked[Sequence] = Ranked()
        self._running: Ranked[Sequence] = Ranked()
        self._giving: Ranked[Sequence] = Ranked()
        """Of those that wait or run, who has pages that may be taken."""
        self._idle: Ranked[Context] = Ranked()
        self._budget = 0
        self._blocked: _Blocked | None = None
        self._waiting_tokens: dict[Rank, int] = {}
        self._num_waiting_tokens = 0
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
        running = (s.context.num_pending for s in self._running if not s.decoding)
        return self._num_waiting_tokens + sum(running)

    @property
    def has_work(self) -> bool:
        """`plan` may return something. After it returned nothing: not before the next `wake`."""
        return not self._stalled and bool(self._waiting or self._running)

    def wake(self) -> None:
        """Something happened: pages may have come back."""
        self._stalled = False

    def add(self, sequence: Sequence) -> None:
        self._waiting.add(sequence)
        self._waiting_tokens[sequence.rank] = sequence.context.num_pending
        self._num_waiting_tokens += sequence.context.num_pending
        if sequence.preemptible and sequence.context.num_pages:
            self._giving.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Whatever it was doing; its pages stay with it."""
        self._leave_queue(sequence)
        self._running.discard(sequence)
        self._giving.discard(sequence)

    def rest(self, context: Context) -> None:
        """Nobody computes on this context now: when pages are short, it may be dropped."""
        self._idle.add(context)

    def unrest(self, context: Context) -> None:
        self._idle.discard(context)

    def contexts(self) -> Iterator[Context]:
        yield from (sequence.context for sequence in (*self._waiting, *self._running))
        yield from self._idle

    def plan(self, now: float) -> list[Work]:
        """The next batch, in order of rank, its pages taken; at most ``max_batch_tokens``.

        Whoever gives way comes after the one that it gives way to, and so is not in the batch yet.
        """
        running = deque(sorted(self._running, key=_by_rank))
        self._budget = self._tokens_for_prompts(sum(s.decoding for s in running))
        work: list[Work] = []
        admitting = True
        while running or admitting:
            if admitting and self._is_next(running):
                piece = self._admitted(now)
                admitting = piece is not None
            elif running:
                piece = self._continued(running.popleft(), now)
            else:
                break
            if piece:
                work.append(piece)
        self._stalled = not work
        return [self._with_guesses(p) for p in work] if self._config.draft_tokens else work

    def learn(self, work: list[Work], took_s: float) -> None:
        """How long a planned batch took: the next ones are cut accordingly."""
        decoding = sum(piece.sequence.decoding for piece in work)
        num_tokens = sum(p.num_tokens for p in work if not p.sequence.decoding)
        self._pace.learn(decoding, num_tokens, took_s)

    def _tokens_for_prompts(self, num_decoding: int) -> int:
        room = self._config.max_batch_tokens - num_decoding
        return int(min(room, self._pace.prompt_tokens(num_decoding)))

    def _is_next(self, running: deque[Sequence]) -> bool:
        """The first that waits goes before those that run and have not had their turn."""
        first = self._waiting.first
        return first is not None and (not running or first.rank < running[0].rank)

    def _chunk(self, sequence: Sequence) -> int:
        return min(sequence.context.num_pending, self._budget, self._config.prefill_chunk)

    # --- those that run -------------------------------------------------------------------------

    def _continued(self, sequence: Sequence, now: float) -> Work | None:
        if sequence not in self._running:  # gave way to an earlier one
            return None
        size = 1 if sequence.decoding else self._chunk(sequence)
        if size == 0 or not self._make_room(sequence, size, now):
            return None
        self._budget -= 0 if sequence.decoding else size
        return Work(sequence, size, is_new=False)

    def _make_room(self, sequence: Sequence, size: int, now: float) -> bool:
        context = sequence.context
        end = context.num_computed + size
        while context.missing(end) > self._pages.num_available:
            if not self._take_from_later(sequence, now):
                self._preempt(sequence, now)
                return False
        context.grow(end)
        return True

    def _with_guesses(self, piece: Work) -> Work:
        """What room is left in the batch goes to guesses: no prompt and no page is put back for
        them."""
        count = min(piece.sequence.num_guesses, self._budget)
        context = piece.sequence.context
        end = context.num_computed + piece.num_tokens + count
        if count <= 0 or context.missing(end) > self._pages.num_free:
            return piece
        context.grow(end)
        self._budget -= count
        return replace(piece, num_guesses=count)

    # --- those that wait ------------------------------------------------------------------------

    def _admitted(self, now: float) -> Work | None:
        """The first of them begins, unless there is no room."""
        sequence = self._waiting.first
        if sequence is None or self._budget <= 0 or not self._may_run(sequence):
            return None
        if not self._find_room(sequence, now):
            return None
        self._clear_slot(now)
        context, size = sequence.context, self._chunk(sequence)
        context.grow(sequence.room_at_admission(context.num_computed + size))
        self._run(sequence, now)
        self._budget -= size
        return Work(sequence, size, is_new=True)

    def _run(self, sequence: Sequence, now: float) -> None:
        self._leave_queue(sequence)
        self._running.add(sequence)
        if sequence.preemptible:
            self._giving.add(sequence)
        sequence.admitted(now)

    def _leave_queue(self, sequence: Sequence) -> None:
        if sequence in self._waiting:
            self._waiting.discard(sequence)
            self._num_waiting_tokens -= self._waiting_tokens.pop(sequence.rank)

    def _may_run(self, sequence: Sequence) -> bool:
        """There is a slot, or a less urgent one has it and can leave it."""
        if len(self._running) < self._config.max_running:
            return True
        last = self._running.last
        return last is not None and last.preemptible and _is_more_urgent(sequence, last)

    def _clear_slot(self, now: float) -> None:
        if len(self._running) >= self._config.max_running:
            last = self._running.last
            assert last is not None
            self._preempt(last, now)

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
        take = self._take_from_less_urgent if self._running else self._take_from_later
        while context.missing(context.num_tokens) > self._pages.num_available:
            if not take(sequence, now):
                self._turn_away(sequence, received)
                return False
        if not received:
            self._counters.matchable_tokens += sequence.num_matchable
            self._counters.matched_tokens += context.num_computed
        return True

    def _turn_away(self, sequence: Sequence, received: bool) -> None:
        context = sequence.context
        lacking = context.missing(context.num_tokens) - self._pages.num_available
        if not received:
            context.drop()
        self._blocked = _Blocked(sequence.rank, self._pages.num_available + lacking)

    def _is_still_blocked(self, sequence: Sequence) -> bool:
        """It was turned away, and no page has come back since: to match its prompt once more in
        every step would be for nothing."""
        blocked = self._blocked
        if blocked is None or blocked.rank != sequence.rank or not self._running:
            return False
        return self._pages.num_available < blocked.wanted and not self._less_urgent(sequence)

    # --- who gives way --------------------------------------------------------------------------

    def _take_from_later(self, wanting: Sequence, now: float) -> bool:
        """Take the pages of the last in rank after ``wanting``, or else of an earlier one that
        nobody computes on. False: there is no such."""
        sequence = self._giving.last
        if sequence and sequence.rank <= wanting.rank:
            sequence = None
        return self._take(sequence, self._idle.last, now)

    def _take_from_less_urgent(self, wanting: Sequence, now: float) -> bool:
        """Take the pages of the last in rank, if its priority is lower than that of ``wanting``."""
        if not self._less_urgent(wanting):
            return False
        sequence, context = self._giving.last, self._idle.last
        if sequence and not _is_more_urgent(wanting, sequence):
            sequence = None
        if context and not _is_more_urgent(wanting, context):
            context = None
        return self._take(sequence, context, now)

    def _less_urgent(self, wanting: Sequence) -> bool:
        last = (self._giving.last, self._idle.last)
        return any(one is not None and _is_more_urgent(wanting, one) for one in last)

    def _take(self, sequence: Sequence | None, context: Context | None, now: float) -> bool:
        """From whichever of the two is the last in rank."""
        if sequence and (context is None or sequence.rank > context.rank):
            self._preempt(sequence, now)
        elif context:
            self._counters.forgone_contexts += 1
            self._idle.discard(context)
            context.drop()
        return bool(sequence or context)

    def _preempt(self, sequence: Sequence, now: float) -> None:
        assert sequence.preemptible
        self._counters.preemptions += 1
        self.remove(sequence)
        sequence.context.drop()
        sequence.preempted(now)
        self.add(sequence)


def _is_more_urgent(wanting: Sequence, other: Sequence | Context) -> bool:
    return wanting.rank.urgency < other.rank.urgency
