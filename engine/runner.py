"""The line between deciding and computing: a batch of rows goes to the device, tokens come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.messages import Sampling
from bus.transfers import PoolShape

from .constraint import Mask
from .page_memory import PageMemory

Ids: TypeAlias = NDArray[np.int32]


class Choice(Struct, frozen=True):
    """How to choose the token that follows one token of a row."""

    sampling: Sampling
    history: Ids
    """All tokens up to that one, prompt first. The new token's position is ``len(history)``."""
    num_prompt: int
    index: int = 0
    """Which of the request's answers: each has random numbers of its own."""
    given: int | None = None
    """The token that follows already: nothing is chosen, its log-probabilities are wanted."""
    banned: frozenset[int] = frozenset()
    """Tokens that are not to be chosen."""
    allowed: Mask | None = None
    """Those that may be; None for all."""


def wanted_logprobs(choice: Choice) -> int | None:
    """How many likeliest tokens' log-probabilities are wanted besides the token's own; None where
    not even that is."""
    sampling = choice.sampling
    return sampling.logprobs if choice.given is None else sampling.prompt_logprobs


class Row(Struct, frozen=True):
    """The next tokens of one sequence.

    ```
    sequence  |<--- KV is in pages --->|<--- tokens: computed now --->|
              0                     position                position + len(tokens)
    ```
    """

    tokens: Ids
    position: int
    pages: Ids
    """Block table: page ``i`` holds tokens ``[i * page_size, (i + 1) * page_size)``; long enough
    for ``position + len(tokens)``."""
    choices: tuple[Choice, ...] = ()
    """One for each of the row's last tokens, in order; none where nothing is to be known of what
    follows them."""
    adapter: str = ""
    """Which of `ModelCard.adapters` is added to the weights; empty for none."""


class Sampled(Struct, frozen=True):
    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class NoToken(Struct, frozen=True):
    """Nothing can be chosen, or measured: the row has no distribution. Others are not concerned."""

    why: str


Found: TypeAlias = Sampled | NoToken


class ModelCard(Struct, frozen=True):
    """What everybody but the device needs to know of a model."""

    name: str
    vocab_size: int
    max_context: int
    end_tokens: frozenset[int]
    shape: PoolShape
    adapters: tuple[str, ...] = ()
    """What rows may ask to be added to the weights."""


OnLayer: TypeAlias = Callable[[int], Any]
"""Called with a layer's number as soon as the KV of all rows is in that layer of the pages."""


class Runner(Protocol):
    """One model on one device with its KV pool."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def page_memory(self) -> PageMemory:
        """The content of the pool's pages."""
        ...

    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> Sequence[tuple[Found, ...]]:
        """Write the KV of every row's tokens into its pages and choose where a row asks for it.

        For every row one result for each of its `Row.choices`. ``on_layer`` is called in order,
        once per layer. Rows of one batch never write the same page.
        """
        ...


class Detokenizer(Protocol):
    """Tokens of one answer to text, a character at a time and never half of one."""

    def push(self, token: int) -> str:
        """The text that became certain with this token; empty while a character is incomplete."""
        ...

    def flush(self) -> str:
        """What is left, incomplete characters as U+FFFD."""
        ...
