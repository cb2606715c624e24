"""A fake model, the pages of its pool and, where wanted, a second tier: all below the scheduler."""

from __future__ import annotations

import numpy as np

from bus.messages import Sampling
from engine.context import Context
from engine.fake import FakeRunner, fake_card
from engine.page_store import PageStore, StoreShape
from engine.pages import Pages
from engine.rank import Rank
from engine.runner import Choice, Ids, Row
from engine.second_tier import SecondTier


def ids(*numbers: int) -> Ids:
    return np.array(numbers, np.int32)


def store_for(runner: FakeRunner, num_slots: int) -> PageStore:
    """Ordinary memory for so many of the runner's pages."""
    shape = runner.card.shape
    slot_bytes = shape.num_layers * shape.page_bytes
    return PageStore.in_memory(StoreShape(num_slots, slot_bytes, shape.fingerprint))


class Device:
    def __init__(
        self,
        num_pages: int = 32,
        page_size: int = 4,
        store: PageStore | None = None,
        pinnable_pages: int = 0,
    ) -> None:
        self.runner = FakeRunner(fake_card(num_pages=num_pages, page_size=page_size))
        tier = SecondTier(self.runner.page_memory, store) if store is not None else None
        self.pages = Pages(num_pages, page_size, tier, pinnable_pages)
        self._serial = 0

    def context(self, tokens: Ids, capacity: int = 64) -> Context:
        self._serial += 1
        return Context(self.pages, Rank.of(0, self._serial), tokens, capacity)

    def compute(self, context: Context, end: int | None = None) -> int:
        """The KV of tokens up to ``end``, then the token that follows them."""
        end = context.num_tokens if end is None else end
        context.grow(end)
        self._copy()
        begin = context.num_computed
        choice = Choice(Sampling(), context.tokens[:end], end)
        [[sampled]] = self.runner.run(
            [Row(context.tokens[begin:end], begin, context.table.copy(), (choice,))]
        )
        context.num_computed = end
        context.publish(end)
        return sampled.token

    def content(self, page: int) -> bytes:
        return self.runner.page_memory.read(page).tobytes()

    def check(self, *contexts: Context) -> None:
        self.pages.check_integrity(page for context in contexts for page in context.held())

    def _copy(self) -> None:
        copies = self.pages.take_copies()
        if copies:
            self.runner.page_memory.copy(np.array([*copies.values()]), np.array([*copies]))
