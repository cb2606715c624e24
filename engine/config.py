"""How one engine is set up; checked once, when it is made."""

from __future__ import annotations

from math import inf

from msgspec import Struct


class EngineConfig(Struct, frozen=True):
    """The size and number of pages are not here: they come with the model's card.

    Raises:
        ValueError: a number does not make sense; the text says which and what does.
    """

    name: str
    epoch: int
    """This incarnation's number: orders for another one are refused. 0 answers to any."""
    max_batch_tokens: int = 512
    """Rows of one step, decoding and prefilling together."""
    max_running: int = 64
    prefill_chunk: int = 512
    """Tokens of one prompt in one step."""
    inter_token_s: float | None = None
    """How long those that decode may wait for their next token while prompts are computed: longer
    prompts are cut accordingly. None: no longer than a full batch takes."""
    draft_tokens: int = 0
    """So many tokens of every answer are guessed and verified in a step, where the batch has room
    (`engine.prompt_lookup`); 0 guesses nothing. Tokens are the same either way."""
    max_waiting: int = 4096
    """Commands that wait for pages, their turn or KV; more are refused as ``busy``."""
    pinnable_pages: int = 0
    """Pages that pinned prefixes may keep; requests are accepted as if they were not there."""
    remembered_flows: int = 8192
    """Ended flows whose late messages are known as such."""

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_running", "prefill_chunk", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")
        for name in ("draft_tokens", "remembered_flows", "pinnable_pages"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 0")
        if self.inter_token_s is not None and not 0 < self.inter_token_s < inf:
            raise ValueError(f"inter_token_s={self.inter_token_s}: give seconds above 0, or None")
        if self.max_running > self.max_batch_tokens:
            raise ValueError(
                f"max_running={self.max_running} with max_batch_tokens={self.max_batch_tokens}: "
                "every running sequence decodes in every step, so give at most that many"
            )
