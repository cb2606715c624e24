"""Which sequences the next step computes, and who gives way when pages are short."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from msgspec import Struct
from msgspec.structs import replace

from .config import EngineConfig
from .context import Context
from .giving_way import GivingWay, is_more_urgent
from .pace import Pace
from .pages import Pages
from .ranked import Ranked
from .restoring import Restoring
from .sequence import Sequence
from .statistics import Counters
from .waiting import Waiting

_by_rank = attrgetter("rank")


class Work(Struct, frozen=True):
    """``num_tokens`` of a sequence in the next step; 0 where the cache had everything."""

    sequence: Sequence
    num_tokens: int
    is_new: bool
    num_guesses: int = 0
    """Tokens after those that may turn out to be its next ones."""


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
        self._restoring = Restoring(config, self._pace, pages.page_size)
        self._waiting, self._giving = Waiting(), GivingWay()
        self._running: Ranked[Sequence] = Ranked()
        self._budget = 0
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
        return self._waiting.num_tokens + sum(running)

    @property
    def _num_decoding(self) -> int:
        return sum(sequence.decoding for sequence in self._running)

    @property
    def has_work(self) -> bool:
        """`plan` may return something. After it returned nothing: not before the next `wake`."""
        return not self._stalled and bool(self._waiting or self._running)

    def wake(self) -> None:
        """Something happened: pages may have come back."""
        self._stalled = False

    def add(self, sequence: Sequence) -> None:
        self._waiting.add(sequence)
        if sequence.context.num_pages:
            self._giving.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Whatever it was doing; its pages stay with it."""
        self._waiting.discard(sequence)
        self._running.discard(sequence)
        self._giving.discard(sequence)

    def rest(self, context: Context) -> None:
        """Nobody computes on this context now: when pages are short, it may be dropped."""
        self._giving.rest(context)

    def unrest(self, context: Context) -> None:
        self._giving.unrest(context)

    def take_back(self, context: Context, end: int) -> None:
        """What the second tier has of a context, matched, whose rest comes from elsewhere: no more
        of it than may come back in one step beside those that decode now."""
        self._restoring.begin(self._num_decoding)
        self._restoring.restore(context, end)

    def contexts(self) -> Iterator[Context]:
        yield from (sequence.context for sequence in (*self._waiting, *self._running))
        yield from self._giving.idle()

    def plan(self, now: float) -> list[Work]:
        """The next batch, in order of rank, its pages taken; at most ``max_batch_tokens``.

        Whoever gives way comes after the one that it gives way to, and so is not in the batch yet.
        """
        running = deque(sorted(self._running, key=_by_rank))
        self._budget = self._tokens_for_prompts(self._num_decoding)
        self._restoring.begin(self._num_decoding)
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
        self._stalled = not work and not self._restoring.num_tokens
        return [self._with_guesses(p) for p in work] if self._config.draft_tokens else work

    def learn(self, work: list[Work], took_s: float, planned_s: float) -> None:
        """How long a batch took, and how much of that its planning, in which pages come back from
        the second tier: the next ones are cut accordingly."""
        if self._restoring.num_tokens:
            self._restoring.learn(planned_s)
            took_s -= planned_s
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
            if not self._take(self._giving.later(sequence), now):
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
        self._waiting.discard(sequence)
        self._running.add(sequence)
        self._giving.add(sequence)
        sequence.admitted(now)

    def _may_run(self, sequence: Sequence) -> bool:
        """There is a slot, or a less urgent one has it and can leave it."""
        if len(self._running) < self._config.max_running:
            return True
        last = self._running.last
        return last is not None and last.preemptible and is_more_urgent(sequence, last)

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
        giver = self._giving.less_urgent if self._running else self._giving.later
        while context.missing(context.num_tokens) > self._pages.num_available:
            if not self._take(giver(sequence), now):
                self._turn_away(sequence, received)
                return False
        if not received and not self._is_restored(sequence):
            return False
        if not received:
            self._counters.matchable_tokens += sequence.num_matchable
            self._counters.matched_tokens += context.num_computed
        return True

    def _is_restored(self, sequence: Sequence) -> bool:
        """Bring back what the second tier has of it; where that is not all, it waits until the next
        step, and holds nothing."""
        context, before = sequence.context, self._restoring.num_tokens
        if self._restoring.restore(context, sequence.num_matchable):
            return True
        restored = self._restoring.num_tokens - before
        self._budget = max(0, self._budget - self._pace.worth_of_restored(restored))
        context.drop()
        return False

    def _turn_away(self, sequence: Sequence, received: bool) -> None:
        context = sequence.context
        lacking = context.missing(context.num_tokens) - self._pages.num_available
        if not received:
            context.drop()
        self._waiting.turn_away(sequence, self._pages.num_available + lacking)

    def _is_still_blocked(self, sequence: Sequence) -> bool:
        """It was turned away, and no page has come back since: to match its prompt once more in
        every step would be for nothing."""
        return (
            bool(self._running)
            and self._waiting.is_turned_away(sequence, self._pages.num_available)
            and self._giving.less_urgent(sequence) is None
        )

    # --- who gives way --------------------------------------------------------------------------

    def _take(self, giver: Sequence | Context | None, now: float) -> bool:
        """Its pages are free from now on; False where there is nobody."""
        if isinstance(giver, Sequence):
            self._preempt(giver, now)
        elif giver:
            self._counters.forgone_contexts += 1
            self._giving.unrest(giver)
            giver.drop()
        return giver is not None

    def _preempt(self, sequence: Sequence, now: float) -> None:
        assert sequence.preemptible
        self._counters.preemptions += 1
        self.remove(sequence)
        sequence.context.drop()
        sequence.preempted(now)
        self.add(sequence)
