"""Who waits, who is computed, whose pages may be taken: what the scheduler moves about."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from .config import EngineConfig
from .context import Context
from .giving_way import GivingWay
from .pages import Pages
from .ranked import Ranked
from .sequence import Sequence
from .statistics import Counters
from .waiting import Waiting


class Work(Struct, frozen=True):
    """``num_tokens`` of a sequence in the next step; 0 where the cache had everything."""

    sequence: Sequence
    num_tokens: int
    is_new: bool
    num_guesses: int = 0
    """Tokens after those that may turn out to be its next ones."""


class Floor:
    def __init__(self, config: EngineConfig, pages: Pages, counters: Counters) -> None:
        self.config, self.pages, self.counters = config, pages, counters
        self.waiting, self.giving = Waiting(), GivingWay()
        self.running: Ranked[Sequence] = Ranked()
        self.budget = 0
        """Tokens of prompts, or guesses, for which the step at hand has room."""

    @property
    def num_decoding(self) -> int:
        return sum(sequence.decoding for sequence in self.running)

    @property
    def num_taken(self) -> int:
        """How often somebody gave way."""
        return self.counters.preemptions + self.counters.forgone_contexts

    @property
    def num_pending_tokens(self) -> int:
        """Of prompts that are waited for, by those that run and those that do not yet."""
        running = (s.context.num_pending for s in self.running if not s.decoding)
        return self.waiting.num_tokens + sum(running)

    def contexts(self) -> Iterator[Context]:
        yield from (sequence.context for sequence in (*self.waiting, *self.running))
        yield from self.giving.idle()

    def add(self, sequence: Sequence) -> None:
        """It waits from now on, with the pages that it has."""
        self.waiting.add(sequence)
        if sequence.context.num_pages:
            self.giving.add(sequence)

    def run(self, sequence: Sequence, now: float) -> None:
        """It waits no more."""
        self.waiting.discard(sequence)
        self.running.add(sequence)
        self.giving.add(sequence)
        sequence.admitted(now)

    def remove(self, sequence: Sequence) -> None:
        """Whatever it was doing; its pages stay with it."""
        self.waiting.discard(sequence)
        self.running.discard(sequence)
        self.giving.discard(sequence)

    def chunk(self, sequence: Sequence) -> int:
        """How many of its tokens fit in the step at hand."""
        return min(sequence.context.num_pending, self.budget, self.config.prefill_chunk)

    def take(self, giver: Sequence | Context | None, now: float) -> bool:
        """Its pages are free from now on; False where there is nobody."""
        if isinstance(giver, Sequence):
            self.preempt(giver, now)
        elif giver:
            self.counters.forgone_contexts += 1
            self.giving.unrest(giver)
            giver.drop()
        return giver is not None

    def preempt(self, sequence: Sequence, now: float) -> None:
        assert sequence.preemptible
        self.counters.preemptions += 1
        self.remove(sequence)
        sequence.context.drop()
        sequence.preempted(now)
        self.add(sequence)
