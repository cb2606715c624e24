"""What an engine can be asked about itself at any time."""

from __future__ import annotations

from msgspec import Struct

from .rates import Rates


class EngineStatistics(Struct, frozen=True):
    """Numbers of now first, then counts since the engine was made. Every page is in exactly one of
    ``free_pages``, ``cached_pages``, ``granted_pages`` and ``used_pages``."""

    waiting: int
    """Commands that wait for pages or their turn."""
    running: int
    """Sequences that are computed in the next step."""
    expecting: int
    """Requests that wait for KV that is on its way."""
    suspended: int
    sending: int
    """Transfers out of here that are not yet acknowledged."""
    receiving: int
    """Grants that can still be written."""
    flows: int
    total_pages: int
    free_pages: int
    cached_pages: int
    """Kept for reuse, evicted when needed."""
    granted_pages: int
    """Another engine may write them."""
    used_pages: int
    pinned_pages: int
    """Of ``used_pages``, those that are kept for pinned prefixes."""
    tier_pages: int
    """In the second tier, besides."""
    steps: int
    steps_by_batch: tuple[int, ...]
    """``steps_by_batch[n]`` of them computed n sequences together; ends with the largest batch."""
    step_s: float
    prefill_tokens: int
    """Computed for prompts, and again after a preemption."""
    decode_tokens: int
    """Computed one by one: answers."""
    guessed_tokens: int
    """Of answers that are over."""
    right_guesses: int
    matchable_tokens: int
    """Prompt tokens looked for in the prefix cache."""
    matched_tokens: int
    """Of those, found."""
    received_tokens: int
    preemptions: int
    forgone_contexts: int
    """Received or suspended contexts whose pages were needed by others before they were used."""
    evicted_pages: int
    saved_pages: int
    """Of those, written to the second tier."""
    restored_pages: int
    """Brought back from there instead of being computed."""
    corrupt_pages: int
    """In the second tier, not what they had been: dropped, and computed again."""
    finished: int
    refused: int
    failed_steps: int
    waiting_tokens: int
    """Of prompts, to be computed yet."""
    prefill_s: float
    """Spent on prompts since the engine was made."""
    prefill_tokens_per_s: float
    """Rates are of the last seconds of work; 0 where there was none yet."""
    decode_step_s: float
    decode_base_s: float
    decode_row_s: float
    transfer_bytes_per_s: float

    @property
    def load(self) -> int:
        """Requests waiting or running."""
        return self.waiting + self.running + self.expecting

    @property
    def available_pages(self) -> int:
        """Pages that a new request can have now."""
        return self.free_pages + self.cached_pages


class Counters:
    """The counts of `EngineStatistics` as they grow."""

    def __init__(self) -> None:
        self.steps = 0
        self.steps_by_batch: list[int] = []
        self.step_s = 0.0
        self.prefill_tokens = 0
        self.decode_tokens = 0
        self.guessed_tokens = 0
        self.right_guesses = 0
        self.matchable_tokens = 0
        self.matched_tokens = 0
        self.received_tokens = 0
        self.preemptions = 0
        self.forgone_contexts = 0
        self.finished = 0
        self.refused = 0
        self.failed_steps = 0
        self.rates = Rates()

    def stepped(self, num_sequences: int, took_s: float) -> None:
        """A step computed so many sequences together."""
        self.steps += 1
        self.step_s += took_s
        self.steps_by_batch += [0] * (num_sequences + 1 - len(self.steps_by_batch))
        self.steps_by_batch[num_sequences] += 1
