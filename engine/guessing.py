"""Guesses of one answer in one step: made, computed behind its newest token, and verified."""

from __future__ import annotations

import numpy as np

from .constraint import Mask
from .held import Held
from .prompt_lookup import NO_GUESS, PromptLookup
from .runner import Ids


class Guessing:
    """Guesses are right where they are what is chosen anyway: see `engine.prompt_lookup`. Under a
    grammar the choice after a guess is held to what may follow it there."""

    def __init__(self, most: int) -> None:
        """At most so many at once; 0 guesses nothing."""
        self._lookup = PromptLookup(most) if most else None
        self._guesses: Ids = NO_GUESS
        self._masks: list[Mask | None] = []

    @property
    def num_guessed(self) -> int:
        """Of the whole answer."""
        return self._lookup.num_guessed if self._lookup else 0

    @property
    def num_right(self) -> int:
        return self._lookup.num_right if self._lookup else 0

    def guess(self, tokens: Ids, most: int, held: Held) -> int:
        """How many tokens are guessed to follow ``tokens``."""
        if self._lookup is None:
            return 0
        guesses = self._lookup.guess(tokens, most)
        self._masks = held.masks_after(guesses)
        self._guesses = guesses[: len(self._masks)]
        return len(self._guesses)

    def take(self, count: int) -> tuple[Ids, list[Mask | None]]:
        """The first ``count`` of them are computed, the others forgotten; what may follow each."""
        self._guesses, self._masks = self._guesses[:count], self._masks[:count]
        return self._guesses, self._masks

    def is_right(self, place: int, token: int) -> bool:
        """The guess at this place is what was chosen there."""
        return place < len(self._guesses) and bool(self._guesses[place] == token)

    def verified(self, num_right: int) -> None:
        """So many of those that were computed were right."""
        if self._lookup and len(self._guesses):
            self._lookup.verified(len(self._guesses), num_right)


def behind(tokens: Ids, guesses: Ids) -> list[Ids]:
    """What is known at each guess: ``tokens`` and the guesses up to it."""
    known = np.concatenate([tokens, guesses])
    return [known[:end] for end in range(len(tokens) + 1, len(known) + 1)]
