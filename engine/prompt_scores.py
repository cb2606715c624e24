"""Log-probabilities of a prompt's tokens, gathered while the prompt is computed piece by piece."""

from __future__ import annotations

from bus.messages import Sampling
from bus.public import TokenLogprob

from .runner import Choice, Ids, Sampled


class PromptScores:
    """
    ```
    prompt   |<----- known ----->|<-- asked for: logits of the token before -->|
             0                num_known                                   num_prompt
    ```

    What follows a token is known from the logits after it, so the first token has no entry, and
    nothing of the cache serves beyond the token before the first one that is missing.
    """

    def __init__(self, prompt: Ids, sampling: Sampling, wanted: bool) -> None:
        self._prompt, self._sampling = prompt, sampling
        self.entries: list[TokenLogprob | None] = [None]
        self._end = len(prompt) if wanted else 1

    @property
    def is_complete(self) -> bool:
        return self._num_missing == 0

    @property
    def num_computable(self) -> int | None:
        """How many tokens' KV may be there already; None for any number."""
        return None if self.is_complete else len(self.entries) - 1

    def choices(self, begin: int, end: int) -> tuple[Choice, ...]:
        """What to ask of a row with the prompt's tokens ``[begin, end)``."""
        before = range(max(begin, len(self.entries) - 1), min(end, self._end - 1))
        return tuple(self._choice(place + 1) for place in before)

    def take(self, sampled: tuple[Sampled, ...]) -> tuple[Sampled, ...]:
        """Keep what answers `choices`; the rest is somebody else's."""
        count = self._num_missing
        self.entries += [TokenLogprob(s.token, s.logprob, s.top) for s in sampled[:count]]
        return sampled[count:]

    @property
    def _num_missing(self) -> int:
        return self._end - len(self.entries)

    def _choice(self, place: int) -> Choice:
        given = int(self._prompt[place])
        return Choice(self._sampling, self._prompt[:place], len(self._prompt), given=given)
