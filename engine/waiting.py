"""Those that wait to be computed, first in rank first, and how much of prompts that is."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from .rank import Rank
from .ranked import Ranked
from .sequence import Sequence


class _TurnedAway(Struct, frozen=True):
    """Who waits first found no room, and how many pages must be available to try again."""

    rank: Rank
    wanted: int


class Waiting:
    def __init__(self) -> None:
        self._sequences: Ranked[Sequence] = Ranked()
        self._tokens: dict[Rank, int] = {}
        self._turned_away: _TurnedAway | None = None
        self.num_tokens = 0
        """That all of them have to compute."""

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        """In no particular order."""
        return iter(self._sequences)

    @property
    def first(self) -> Sequence | None:
        return self._sequences.first

    def add(self, sequence: Sequence) -> None:
        self._sequences.add(sequence)
        self._tokens[sequence.rank] = sequence.context.num_pending
        self.num_tokens += sequence.context.num_pending

    def discard(self, sequence: Sequence) -> None:
        """Nothing happens where it is not here."""
        if sequence in self._sequences:
            self._sequences.discard(sequence)
            self.num_tokens -= self._tokens.pop(sequence.rank)

    def turn_away(self, sequence: Sequence, wanted: int) -> None:
        """It goes on waiting until ``wanted`` pages are available."""
        self._turned_away = _TurnedAway(sequence.rank, wanted)

    def is_turned_away(self, sequence: Sequence, num_available: int) -> bool:
        """Fewer pages are available than it was told to wait for."""
        told = self._turned_away
        return told is not None and told.rank == sequence.rank and num_available < told.wanted
