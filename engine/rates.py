"""How fast this engine is, measured from what it has really done lately."""

from __future__ import annotations

from math import exp
from typing import Final

MEMORY_S: Final = 10.0
"""Busy seconds after which what was measured before counts for a third."""
LEAST_PROMPT_TOKENS: Final = 16
"""With fewer of them, a step says nothing of how fast prompts are. A decoder that has all but the
last token sent to it computes no others."""
LEAST_SPREAD: Final = 0.5
"""Answers, squared: steps that differ by less tell a line from noise no better than a guess."""


class Rate:
    """An amount per second, over the seconds that were spent on it, older ones counting less.

    Amounts and seconds are averaged each for itself, so a short sample counts as little as it is.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._amount = self._seconds = 0.0

    def add(self, amount: float, seconds: float) -> None:
        if seconds <= 0:
            return
        keep = exp(-seconds / self._memory_s)
        self._amount = self._amount * keep + amount
        self._seconds = self._seconds * keep + seconds

    @property
    def per_s(self) -> float:
        """0 where nothing was measured yet."""
        return self._amount / self._seconds if self._seconds else 0.0


class Slope:
    """Seconds for each of an amount, the line through nothing that fits best: a sample counts by
    the square of its amount, since what is there besides hardly shows in a large one and is all
    that there is in a small one. Older ones count less."""

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._xx = self._xy = 0.0

    def add(self, amount: float, seconds: float) -> None:
        keep = exp(-seconds / self._memory_s)
        self._xx = self._xx * keep + amount * amount
        self._xy = self._xy * keep + amount * seconds

    @property
    def per_s(self) -> float:
        """Of the amount; 0 where nothing was measured yet."""
        return self._xx / self._xy if self._xy else 0.0


class Trend:
    """A straight line through what was measured, older steps counting less.

    Where all steps had about the same number of answers, nobody can tell what one more adds: then
    the line is flat. It never falls, nor is it below zero anywhere.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        self._memory_s = memory_s
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, x: float, seconds: float) -> None:
        """``x`` took ``seconds``."""
        keep = exp(-seconds / self._memory_s)
        self._weight = self._weight * keep + 1
        self._x = self._x * keep + x
        self._y = self._y * keep + seconds
        self._xx = self._xx * keep + x * x
        self._xy = self._xy * keep + x * seconds

    @property
    def slope_s(self) -> float:
        """Seconds that one more adds; 0 where nothing was measured yet."""
        if not self._x:
            return 0.0
        x, y = self._x / self._weight, self._y / self._weight
        spread, together = self._xx / self._weight - x * x, self._xy / self._weight - x * y
        return min(max(0.0, together / (spread + LEAST_SPREAD)), y / x)

    @property
    def base_s(self) -> float:
        """Seconds that it takes before the first; 0 where nothing was measured yet."""
        if not self._weight:
            return 0.0
        return max(0.0, (self._y - self.slope_s * self._x) / self._weight)


class Rates:
    """What routers are told in heartbeats."""

    def __init__(self) -> None:
        self._decode, self._transfer = Rate(), Rate()
        self._prefill, self._step = Slope(), Trend()
        self.prefill_s = 0.0
        """Spent on prompts so far."""

    def stepped(self, prefill_tokens: int, num_decoding: int, seconds: float) -> None:
        """A step computed so many tokens of prompts, and one each for so many answers.

        Of a mixed step the answers are taken to have cost what steps of answers alone do; the rest
        of it was for the prompts.
        """
        if num_decoding and not prefill_tokens:
            self._decode.add(1, seconds)
            self._step.add(num_decoding, seconds)
        elif prefill_tokens:
            answers_s = self._answers_s(num_decoding) if num_decoding else 0.0
            prompts_s = max(seconds - answers_s, seconds / 2)
            self.prefill_s += prompts_s
            if prefill_tokens >= LEAST_PROMPT_TOKENS:
                self._prefill.add(prefill_tokens, prompts_s)

    def sent(self, num_bytes: int, seconds: float) -> None:
        """A transfer took ``seconds`` in which bytes moved."""
        self._transfer.add(num_bytes, seconds)

    @property
    def prefill_tokens_per_s(self) -> float:
        return self._prefill.per_s

    @property
    def decode_step_s(self) -> float:
        """Seconds of a step that computes answers only, whatever their number."""
        return 1 / self._decode.per_s if self._decode.per_s else 0.0

    @property
    def decode_base_s(self) -> float:
        """Of the same step, what it takes whatever the number of answers."""
        return self._step.base_s

    @property
    def decode_row_s(self) -> float:
        """What each answer adds to it."""
        return self._step.slope_s

    @property
    def transfer_bytes_per_s(self) -> float:
        return self._transfer.per_s

    def _answers_s(self, num_decoding: int) -> float:
        return self.decode_base_s + num_decoding * self.decode_row_s
