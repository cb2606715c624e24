"""Speculative decoding without a second model: what came after these tokens the last time?

Answers often repeat their prompt or themselves. The last few tokens are looked up in everything
before them, and what followed there is taken as a guess of what follows now (prompt lookup: Saxena
2023; assisted generation with n-grams in transformers). A step computes the guess behind the newest
token, and chooses a token after each: as long as the guess is what is chosen anyway, it costs no
step of its own.

A token is a function of what is before it, the parameters, the seed and its position. So to accept
a guess only where it equals the token that is chosen gives exactly the tokens that are chosen
without any guess, greedy or drawn: nothing is left to be corrected in the distribution.
"""

from __future__ import annotations

import numpy as np

from .runner import Ids

SIZES = (3, 2)
"""How many last tokens are looked up: the longer first, since what follows them is surer."""

NO_GUESS: Ids = np.empty(0, np.int32)


class PromptLookup:
    """Guesses for one answer. Time is linear in tokens that are new, and constant otherwise."""

    def __init__(self, most: int) -> None:
        """``most`` tokens are guessed at once."""
        self._most = self._hope = most
        self._followers: dict[bytes, int] = {}
        """After which tokens what is at which place: the latest."""
        self._num_known = 0
        self.num_guessed = 0
        self.num_right = 0

    def guess(self, tokens: Ids, most: int) -> Ids:
        """At most ``most`` tokens that may follow ``tokens``, which begin as in the call before."""
        self._learn(tokens)
        count = min(most, self._hope)
        for size in SIZES:
            place = self._followers.get(tokens[-size:].tobytes()) if len(tokens) > size else None
            if place is not None:
                # Where the end of the text is reached, what lies between goes round once more.
                return np.resize(tokens[place : place + count], count)
        return NO_GUESS

    def verified(self, num_guessed: int, num_right: int) -> None:
        """So many of a guess were right. The next is not much longer than that: a guess costs
        little where it is right, and where nothing repeats, next to nothing should be guessed."""
        self.num_guessed += num_guessed
        self.num_right += num_right
        self._hope = min(self._most, num_right + 2)

    def _learn(self, tokens: Ids) -> None:
        """The end of ``tokens`` is looked up before it is known: it would find itself."""
        for place in range(max(self._num_known, 1), len(tokens)):
            for size in SIZES:
                if place >= size:
                    self._followers[tokens[place - size : place].tobytes()] = place
        self._num_known = len(tokens)
