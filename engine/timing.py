"""Where the time of one answer went: for its usage, and for its trace."""

from __future__ import annotations

from bus.messages import Usage

from .trail import Trail


class Timing:
    """Notes the stretches of decoding in ``trail``. Times are in seconds, as in ``now``."""

    def __init__(self, trail: Trail, now: float) -> None:
        self._trail = trail
        self.matched: int | None = None
        """Tokens of the prompt that were there when it was first admitted."""
        self._queued_s = now
        self._admitted_s: float | None = None
        self._first_token_s: float | None = None
        self._decode_begin_s = now
        self._num_decoded = self._num_steps = 0

    def queued(self, now: float) -> None:
        self._queued_s = now

    def admitted(self, matched: int, now: float) -> None:
        """Only the first time counts: after a preemption it is admitted again."""
        if self._admitted_s is None:
            self._admitted_s, self.matched = now, matched

    def spoke(self, now: float) -> bool:
        """Whether these are its first tokens."""
        if self._first_token_s is not None:
            return False
        self._first_token_s = now
        return True

    def began_decoding(self, now: float) -> None:
        self._decode_begin_s = now

    def decoded(self, num_tokens: int) -> None:
        """One step more."""
        self._num_decoded += num_tokens
        self._num_steps += 1

    def paused(self, now: float) -> None:
        """It decodes no more, or not for the time being."""
        if self._num_decoded:
            counts = {"tokens": self._num_decoded, "steps": self._num_steps}
            self._trail.add("decode", self._decode_begin_s, now, **counts)
        self._num_decoded = self._num_steps = 0

    def usage(self, prompt_tokens: int, completion_tokens: int, now: float) -> Usage:
        admitted = now if self._admitted_s is None else self._admitted_s
        first = now if self._first_token_s is None else self._first_token_s
        return Usage(
            prompt_tokens=prompt_tokens,
            cached_tokens=self.matched or 0,
            completion_tokens=completion_tokens,
            queue_s=admitted - self._queued_s,
            prefill_s=first - admitted,
            decode_s=now - first,
        )
