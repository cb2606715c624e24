"""Which sequences the next step computes, in order of rank."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter

from msgspec.structs import replace

from .admitting import Admitting
from .config import EngineConfig
from .context import Context
from .floor import Floor, Work
from .pace import Pace
from .pages import Pages
from .restoring import Restoring
from .sequence import Sequence
from .statistics import Counters

__all__ = ["Scheduler", "Work"]

_by_rank = attrgetter("rank")


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
        self._config, self._pages = config, pages
        self._floor = Floor(config, pages, counters)
        self._pace = Pace(config.inter_token_s, pages.page_size)
        self._restoring = Restoring(config, self._pace, pages.page_size)
        self._admitting = Admitting(self._floor, self._pace, self._restoring)
        self._stalled = False

    @property
    def num_waiting(self) -> int:
        return len(self._floor.waiting)

    @property
    def num_running(self) -> int:
        return len(self._floor.running)

    @property
    def num_pending_tokens(self) -> int:
        """Of prompts that are waited for, by those that run and those that do not yet."""
        return self._floor.num_pending_tokens

    @property
    def has_work(self) -> bool:
        """`plan` may return something. After it returned nothing: not before the next `wake`."""
        return not self._stalled and bool(self._floor.waiting or self._floor.running)

    def wake(self) -> None:
        """Something happened: pages may have come back."""
        self._stalled = False

    def add(self, sequence: Sequence) -> None:
        self._floor.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Whatever it was doing; its pages stay with it."""
        self._floor.remove(sequence)

    def rest(self, context: Context) -> None:
        """Nobody computes on this context now: when pages are short, it may be dropped."""
        self._floor.giving.rest(context)

    def unrest(self, context: Context) -> None:
        self._floor.giving.unrest(context)

    def take_back(self, context: Context, end: int) -> None:
        """What the second tier has of a context, matched, whose rest comes from elsewhere: no more
        of it than may come back in one step beside those that decode now."""
        self._restoring.begin(self._floor.num_decoding)
        self._restoring.restore(context, end)

    def contexts(self) -> Iterator[Context]:
        return self._floor.contexts()

    def plan(self, now: float) -> list[Work]:
        """The next batch, in order of rank, its pages taken; at most ``max_batch_tokens``.

        Whoever gives way comes after the one that it gives way to, and so is not in the batch yet.
        """
        running = deque(sorted(self._floor.running, key=_by_rank))
        num_decoding = self._floor.num_decoding
        self._floor.budget = self._tokens_for_prompts(num_decoding)
        self._restoring.begin(num_decoding)
        work: list[Work] = []
        admitting, num_taken = True, self._floor.num_taken
        while running or admitting:
            if admitting and self._is_next(running):
                piece = self._admitting.next(now)
                admitting = piece is not None
            elif running:
                piece = self._continued(running.popleft(), now)
            else:
                break
            if piece:
                work.append(piece)
        # Where somebody has just given way, there is room for who was turned away before.
        is_as_before = num_taken == self._floor.num_taken
        self._stalled = not work and not self._restoring.num_tokens and is_as_before
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
        first = self._floor.waiting.first
        return first is not None and (not running or first.rank < running[0].rank)

    def _continued(self, sequence: Sequence, now: float) -> Work | None:
        if sequence not in self._floor.running:  # gave way to an earlier one
            return None
        size = 1 if sequence.decoding else self._floor.chunk(sequence)
        if size == 0 or not self._make_room(sequence, size, now):
            return None
        self._floor.budget -= 0 if sequence.decoding else size
        return Work(sequence, size, is_new=False)

    def _make_room(self, sequence: Sequence, size: int, now: float) -> bool:
        context = sequence.context
        end = context.num_computed + size
        while context.missing(end) > self._pages.num_available:
            if not self._floor.take(self._floor.giving.later(sequence), now):
                self._floor.preempt(sequence, now)
                return False
        context.grow(end)
        return True

    def _with_guesses(self, piece: Work) -> Work:
        """What room is left in the batch goes to guesses: no prompt and no page is put back for
        them."""
        count = min(piece.sequence.num_guesses, self._floor.budget)
        context = piece.sequence.context
        end = context.num_computed + piece.num_tokens + count
        if count <= 0 or context.missing(end) > self._pages.num_free:
            return piece
        context.grow(end)
        self._floor.budget -= count
        return replace(piece, num_guesses=count)
