"""The text of one answer as its tokens come, and when it is over."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from bus.messages import FinishReason

from .runner import Detokenizer
from .stopping import StopStrings


class Ending(Struct, frozen=True):
    """What ends an answer besides a cancellation."""

    end_tokens: frozenset[int]
    """The model's own and the user's: the last token of the answer, but no part of its text."""
    stops: tuple[str, ...]
    max_tokens: int
    """The user's, or what the context and the pool have room for."""
    min_tokens: int = 0
    """Before so many, no end token may be chosen and no stop string is looked for."""


class Answer:
    """Fed with every token from the first of the answer, whichever engine made it: then text that
    was held back there is given out here, and the other way round."""

    def __init__(self, ending: Ending, detokenizer: Detokenizer) -> None:
        self._ending = ending
        self._detokenizer = detokenizer
        self._stops = StopStrings(ending.stops)
        self.num_tokens = 0
        self.reason: FinishReason | None = None if ending.max_tokens else "length"
        """None until the answer is over."""

    @property
    def num_left(self) -> int:
        """How many tokens there may be more."""
        return self._ending.max_tokens - self.num_tokens

    def banned(self, num_more: int = 0) -> frozenset[int]:
        """Tokens that may not come next, or when there are ``num_more``."""
        early = self.num_tokens + num_more < self._ending.min_tokens
        return self._ending.end_tokens if early else frozenset()

    @property
    def max_tokens(self) -> int:
        return self._ending.max_tokens

    def another(self, detokenizer: Detokenizer) -> Answer:
        """One that has not begun, and ends where this one would."""
        return Answer(self._ending, detokenizer)

    def push(self, token: int) -> str:
        """The text that became certain with this token: all of it when it is the last."""
        self.num_tokens += 1
        if token in self._ending.end_tokens:
            self.reason = "stop"
            return self._rest()
        text = self._detokenizer.push(token)
        if self.num_tokens > self._ending.min_tokens:
            text = self._stops.push(text)
        if not self._stops.matched and self.num_tokens >= self._ending.max_tokens:
            text += self._rest()
            self.reason = "length"
        if self._stops.matched:
            self.reason = "stop"
        return text

    def replay(self, tokens: Iterable[int]) -> None:
        """Tokens of the same answer that another engine made and whose text is out already."""
        for token in tokens:
            self.push(token)

    def _rest(self) -> str:
        return self._stops.push(self._detokenizer.flush()) + self._stops.flush()
