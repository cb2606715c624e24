"""A model without weights whose every token still depends on every byte of KV it should read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.messages import Sampling
from bus.transfers import PoolShape

from .page_memory import HostPageMemory
from .runner import Choice, Ids, ModelCard, OnLayer, Row, Sampled, wanted_logprobs

SLOT_BYTES = 8
"""What a token takes in one layer of a page."""

Sums = NDArray[np.uint64]


def fake_card(
    num_pages: int = 64,
    page_size: int = 4,
    num_layers: int = 2,
    max_context: int = 1024,
    end_tokens: Sequence[int] = (),
    adapters: Sequence[str] = (),
) -> ModelCard:
    """A model of 1,000 tokens. Cards that differ only in ``num_pages`` can exchange pages."""
    shape = PoolShape(
        num_layers=num_layers,
        num_pages=num_pages,
        page_size=page_size,
        page_bytes=page_size * SLOT_BYTES,
        fingerprint=f"fake-{num_layers}-{page_size}",
    )
    return ModelCard("fake", 1000, max_context, frozenset(end_tokens), shape, tuple(adapters))


class Cost(Struct, frozen=True):
    """Seconds that a step takes: so much at least, so much more for every token in it, and for
    every token before them that it reads."""

    step_s: float = 0.0
    token_s: float = 0.0
    context_s: float = 0.0

    def of(self, rows: list[Row]) -> float:
        num_tokens = sum(len(row.tokens) for row in rows)
        num_read = sum(row.position for row in rows)
        return self.step_s + self.token_s * num_tokens + self.context_s * num_read


class FakeRunner:
    """Computes, and keeps in its pages, one checksum per token and layer.

    The checksum of a token covers all tokens before it, as KV does, and is made from the one
    before it *in the pages*. The next token is a hash of all checksums that the pages hold. So a
    page that is wrong, garbage, not yet received or already reused changes every token after it.
    """

    def __init__(
        self,
        card: ModelCard,
        buffer: memoryview | bytearray | None = None,
        cost: Cost | None = None,
        advance: Callable[[float], None] | None = None,
    ) -> None:
        """The pool lies in ``buffer``, as `PoolShape` says, or in memory of its own; it begins as
        garbage. ``advance`` is told the seconds of each layer before ``on_layer`` is called."""
        self._card, self._cost, self._advance = card, cost or Cost(), advance
        shape = card.shape
        assert shape.page_bytes == shape.page_size * SLOT_BYTES
        self.memory = memoryview(bytearray(shape.num_bytes) if buffer is None else buffer)
        slots = np.frombuffer(self.memory, np.uint64)
        self._slots = slots.reshape(shape.num_layers, shape.num_pages, shape.page_size)
        self._slots[:] = 0xDEADBEEF
        self.page_memory = HostPageMemory(self.memory, shape)
        self._failures: deque[Exception] = deque()

    @property
    def card(self) -> ModelCard:
        return self._card

    def fail_next(self, error: Exception) -> None:
        """The next run raises ``error`` when it is half done."""
        self._failures.append(error)

    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> list[tuple[Sampled, ...]]:
        _check_disjoint(rows, self._card.shape.page_size)
        cost_s = self._cost.of(rows)
        num_layers = self._card.shape.num_layers
        for layer in range(num_layers):
            for row in rows:
                self._write(layer, row)
            if self._advance:
                self._advance(cost_s / num_layers)
            if on_layer:
                on_layer(layer)
            if self._failures:
                raise self._failures.popleft()
        return [tuple(self._choose(row, choice) for choice in row.choices) for row in rows]

    def continuation(
        self,
        prompt: Sequence[int],
        count: int,
        sampling: Sampling | None = None,
        index: int = 0,
        adapter: str = "",
    ) -> list[int]:
        """The ``count`` tokens that must follow, computed without pages: what tests compare with.

        Stops nowhere, neither at end tokens nor at the end of the context.
        """
        tokens = list(prompt)
        for _ in range(count):
            history = np.array(tokens, np.int32)
            layers = range(self._card.shape.num_layers)
            sums = np.stack([_sums(layer, 0, history, _NOTHING, adapter) for layer in layers])
            tokens.append(self._hashed(sums, sampling or Sampling(), len(tokens), index))
        return tokens[len(prompt) :]

    def _write(self, layer: int, row: Row) -> None:
        size = self._card.shape.page_size
        where = np.arange(row.position, row.position + len(row.tokens))
        before = self._read(layer, row, range(max(0, row.position - 1), row.position))
        sums = _sums(layer, row.position, row.tokens, before, row.adapter)
        self._slots[layer, row.pages[where // size], where % size] = sums

    def _read(self, layer: int, row: Row, places: range) -> Sums:
        where = np.arange(places.start, places.stop)
        size = self._card.shape.page_size
        sums: Sums = self._slots[layer, row.pages[where // size], where % size]
        return sums

    def _choose(self, row: Row, choice: Choice) -> Sampled:
        length = len(choice.history)
        assert row.position < length <= row.position + len(row.tokens)
        layers = range(self._card.shape.num_layers)
        sums = np.stack([self._read(layer, row, range(length)) for layer in layers])
        token = choice.given
        if token is None:
            token = self._steered(self._hashed(sums, choice.sampling, length, choice.index), choice)
        count = wanted_logprobs(choice)
        if count is None:
            return Sampled(token)
        top = tuple((token + rank, -0.5 - rank) for rank in range(count))
        return Sampled(token, -0.5, top)

    def _steered(self, token: int, choice: Choice) -> int:
        """The next token from there on that may be chosen."""
        while token in choice.banned or not _allows(choice, token):
            token = (token + 1) % self._card.vocab_size
        return token

    def _hashed(self, sums: Sums, sampling: Sampling, position: int, index: int) -> int:
        """Greedy tokens depend on the history alone, others on seed, position and answer, too.
        Where some tokens have a bias above 50, it is one of those."""
        drawn = [sampling.seed + (index << 32), position]
        chance = drawn if sampling.temperature > 0 else [0, 0]
        everything = np.array([_total(sums), *chance], np.uint64)
        number = _total(everything[None])
        liked = [token for token, bias in sampling.logit_bias if bias > 50]
        return liked[number % len(liked)] if liked else number % self._card.vocab_size


def _allows(choice: Choice, token: int) -> bool:
    return choice.allowed is None or bool(choice.allowed[token // 8] >> token % 8 & 1)


class FakeDetokenizer:
    """Token 17 is the text ``17`` and a space."""

    def push(self, token: int) -> str:
        return f"{token} "

    def flush(self) -> str:
        return ""


_NOTHING = np.zeros(0, np.uint64)


def _sums(layer: int, position: int, tokens: Ids, before: Sums, adapter: str) -> Sums:
    """Checksums of ``tokens`` from ``position`` on, given the one of the token before."""
    layer = layer + crc32(adapter.encode()) % 128
    places = np.arange(position, position + len(tokens), dtype=np.uint64)
    mixed = _mix(places * np.uint64(1 << 32) + tokens.astype(np.uint64) + np.uint64(layer << 56))
    if len(before):
        mixed[:1] += before
    return np.cumsum(mixed, dtype=np.uint64)


def _total(sums: Sums) -> int:
    """One number of all of them, different when any differs or two are exchanged."""
    layers, length = sums.shape
    places = np.arange(layers * length, dtype=np.uint64).reshape(layers, length)
    return int(_mix(_mix(sums) + _mix(places)).sum(dtype=np.uint64))


def _mix(numbers: Sums) -> Sums:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): neighbours become unrelated."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _check_disjoint(rows: list[Row], page_size: int) -> None:
    """The promise made to every runner: no page is written by two rows or read by another one."""
    written: dict[int, int] = {}
    for number, row in enumerate(rows):
        end = -(-(row.position + len(row.tokens)) // page_size)
        for page in row.pages[row.position // page_size : end]:
            assert written.setdefault(int(page), number) == number, f"two rows write page {page}"
    for number, row in enumerate(rows):
        for page in row.pages[: row.position // page_size]:
            assert int(page) not in written, f"row {number} reads page {page} while it is written"
