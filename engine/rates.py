"""How fast this engine is, measured from what it has really done lately."""

from __future__ import annotations

from math import exp
from typing import Final

MEMORY_S: Final = 10.0
"""Busy seconds after which what was measured before counts for a third."""


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


class Rates:
    """What routers are told in heartbeats."""

    def __init__(self) -> None:
        self._prefill, self._decode, self._transfer = Rate(), Rate(), Rate()

    def stepped(self, prefill_tokens: int, num_decoding: int, seconds: float) -> None:
        """A step computed so many tokens of prompts, and one each for so many answers.

        Of a mixed step the answers are taken to have cost what steps of answers alone do; the rest
        of it was for the prompts.
        """
        if num_decoding and not prefill_tokens:
            self._decode.add(1, seconds)
        elif prefill_tokens:
            answers_s = self.decode_step_s if num_decoding else 0.0
            self._prefill.add(prefill_tokens, max(seconds - answers_s, seconds / 2))

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
    def transfer_bytes_per_s(self) -> float:
        return self._transfer.per_s
