"""How much of a prompt a step may compute while others wait for their next token.

```
a step   |<- those that decode ->|<----- tokens of prompts ----->|
         0                    decode_s                    aim * bound_s
```

What a step takes is learned from the steps before it: the part of those that decode from steps of
nothing else, the part of a prompt's token from the rest. Both may be off, since neither is really
constant; but what is counted too low in one is counted too high in the other, and the next chunk is
corrected by what the last one took, so that steps settle where they are meant to be.
"""

from __future__ import annotations

from math import ceil, inf

AIM = 0.85
"""Of the bound: what a step is planned to take, since some take longer than planned."""
DECODE_WEIGHT = 0.25
"""Of the newest step in what is known of decoding."""
RESTORE_WEIGHT = 0.5
"""Of the newest step in what is known of restoring."""
PROMPT_MEMORY_TOKENS = 64
"""A chunk of so many tokens counts as much as all chunks before it. By tokens and not by chunks:
the last three tokens of a prompt say nothing of what a token costs."""


class Pace:
    """Without a bound (None) everything fits, and nothing is learned."""

    def __init__(self, bound_s: float | None, least_tokens: int) -> None:
        """``least_tokens`` of prompts are computed in every step, whatever it takes: where the
        bound cannot be kept, prompts still get on."""
        self._bound_s, self._least_tokens = bound_s, least_tokens
        self._decode_s = 0.0
        self._token_s: float | None = None
        self._restored_s: float | None = None

    def learn(self, num_decoding: int, num_prompt_tokens: int, took_s: float) -> None:
        """A step of so many decoding rows and tokens of prompts took so long."""
        if num_prompt_tokens:
            rest_s = took_s - self._decode_s if num_decoding else took_s
            self._learn_prompt(num_prompt_tokens, max(0.0, rest_s) / num_prompt_tokens)
        elif num_decoding:
            weight = DECODE_WEIGHT if self._decode_s else 1.0
            self._decode_s += weight * (took_s - self._decode_s)

    def prompt_tokens(self, num_decoding: int) -> float:
        """How many tokens of prompts fit beside so many rows that decode; `inf`: any number."""
        if self._bound_s is None or num_decoding == 0:
            return inf
        if self._token_s is None:
            return self._least_tokens
        return max(self._least_tokens, self._fitting(self._bound_s, self._token_s))

    def learn_restoring(self, num_tokens: int, took_s: float) -> None:
        """So many tokens' KV came back from the second tier in so long."""
        if num_tokens:
            token_s = took_s / num_tokens
            known_s = token_s if self._restored_s is None else self._restored_s
            self._restored_s = known_s + RESTORE_WEIGHT * (token_s - known_s)

    def restorable_tokens(self, num_decoding: int) -> float:
        """How many tokens' KV may come back from the second tier beside so many rows that decode,
        where no prompt is computed."""
        if self._bound_s is None or num_decoding == 0:
            return inf
        if self._restored_s is None:
            return self._least_tokens
        return max(self._least_tokens, self._fitting(self._bound_s, self._restored_s))

    def worth_of_restored(self, num_tokens: int) -> int:
        """How many tokens of prompts might have been computed in the time that so many took to
        come back."""
        if not self._token_s or self._restored_s is None:
            return 0
        return ceil(num_tokens * self._restored_s / self._token_s)

    def _fitting(self, bound_s: float, token_s: float) -> float:
        left_s = AIM * bound_s - self._decode_s
        return left_s / token_s if token_s else inf

    def _learn_prompt(self, num_tokens: int, token_s: float) -> None:
        if self._token_s is None:
            self._token_s = token_s
        weight = num_tokens / (num_tokens + PROMPT_MEMORY_TOKENS)
        self._token_s += weight * (token_s - self._token_s)
