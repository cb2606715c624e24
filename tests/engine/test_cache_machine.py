"""Any sequence of operations on pages, cache, pins and second tier, beside a naive model of them.

After every step the two agree in every number and every prefix, every page is accounted for, and no
page that somebody else could read has changed. Every token computed is checked against one that is
computed without pages, so a page with wrong content is found as soon as it is read.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from engine.context import Context
from engine.pins import PinsFull

from .cache_model import Box, Cell, Model, Prefix, Row
from .device import Device, ids, store_for

SIZE = 2
MAX_TOKENS = 12
PINNABLE = 3

PROMPTS = st.sampled_from(
    [(first, *range(20, 20 + more)) for first in range(5) for more in (0, 2, 5, 8)]
    + [(1, 20, 21, 22, 9, 9), (1, 20, 9, 9, 9)]
)
"""Some begin alike, so that they share pages; the others fill the pool."""
SHARES = st.sampled_from([1.0, 1.0, 0.6, 0.0])


class Pair:
    """A context and what the model has for it."""

    def __init__(self, real: Context, row: Row) -> None:
        self.real, self.row = real, row


class CacheMachine(RuleBasedStateMachine):
    contexts = Bundle("contexts")
    pinned = Bundle("pinned")

    @initialize(num_pages=st.integers(6, 10), num_slots=st.sampled_from([0, 3, 12]))
    def begin(self, num_pages: int, num_slots: int) -> None:
        probe = Device(num_pages, SIZE)
        self.store = store_for(probe.runner, num_slots)
        self.device = Device(num_pages, SIZE, self.store, PINNABLE)
        self.model = Model(num_pages, SIZE, num_slots, PINNABLE)
        self.living: list[Pair] = []
        self.seen: set[Prefix] = set()
        self.readable: dict[Cell, tuple[int, bytes]] = {}

    # --- contexts ---

    @rule(target=contexts, tokens=PROMPTS)
    def open(self, tokens: Prefix) -> Pair:
        pair = Pair(self.device.context(ids(*tokens), MAX_TOKENS), Row(tokens))
        pair.real.match(len(tokens))
        while not pair.real.restore(len(tokens), most=1):
            pass
        self.model.match(pair.row)
        self.living.append(pair)
        self.seen.add(tokens)
        return pair

    @rule(tokens=PROMPTS)
    def serve(self, tokens: Prefix) -> None:
        """From its first token to its last: what is left of it is cached."""
        pair = self.open(tokens)
        self.compute(pair, 1.0)
        self.drop(pair)

    @rule(pair=contexts, share=SHARES)
    def compute(self, pair: Pair, share: float) -> None:
        """Some of the tokens that are missing, one more where none is."""
        if not pair.real.num_pending and not self.append(pair, 20 + int(share * 1.99)):
            return
        end = pair.real.num_computed + 1 + int(share * (pair.real.num_pending - 1))
        assert pair.real.missing(end) == self.model.missing(pair.row, end)
        if pair.real.missing(end) > self.device.pages.num_available:
            return
        token = self.device.compute(pair.real, end)
        self.model.compute(pair.row, end)
        assert [token] == self.device.runner.continuation(pair.row.tokens[:end], 1)

    def append(self, pair: Pair, token: int) -> bool:
        if pair.real.num_tokens == MAX_TOKENS:
            return False
        pair.real.append(token)
        pair.row.tokens += (token,)
        self.seen.add(pair.row.tokens)
        return True

    @rule(target=contexts, pair=contexts, share=SHARES, less=st.integers(0, 1))
    def fork(self, pair: Pair, share: float, less: int) -> Pair:
        num_tokens = 1 + int(share * (pair.real.num_tokens - 1))
        end = num_tokens - less
        child = pair.real.fork(len(self.living), num_tokens, end, MAX_TOKENS)
        forked = Pair(child, self.model.fork(pair.row, num_tokens, end))
        self.living.append(forked)
        return forked

    @rule(pair=consumes(contexts))
    def drop(self, pair: Pair) -> None:
        pair.real.drop()
        self.model.let_go(pair.row)
        self.living.remove(pair)

    @rule(pair=consumes(contexts))
    def forget(self, pair: Pair) -> None:
        pair.real.forget()
        self.model.forget(pair.row)
        self.drop(pair)

    # --- pins ---

    @rule(target=pinned, tokens=PROMPTS)
    def pin(self, tokens: Prefix) -> Prefix:
        try:
            assert self.device.pages.pin(ids(*tokens)) == len(tokens) // SIZE * SIZE
        except PinsFull:
            assert not self.model.may_pin(tokens)
            return multiple()  # type: ignore[return-value]
        assert self.model.may_pin(tokens)
        self.model.pin(tokens)
        return tokens

    @rule(tokens=consumes(pinned))
    def unpin(self, tokens: Prefix) -> None:
        self.device.pages.unpin(ids(*tokens))
        self.model.unpin(tokens)

    # --- the second tier ---

    @precondition(lambda self: self.model.tier)
    @rule(place=st.integers(0, 31), tokens=PROMPTS, wanted=st.booleans())
    def damage(self, place: int, tokens: Prefix, wanted: bool) -> None:
        """A bit turns round in every page of the store that these tokens would bring back; perhaps
        they are wanted at once."""
        for prefix in self.model.prefixes(tokens):
            if prefix in self.model.tier and prefix not in self.model.corrupt:
                self.store.peek(self.digest(prefix))[place] ^= 4
                self.model.corrupt.add(prefix)
        if wanted:
            self.serve(tokens)

    def digest(self, prefix: Prefix) -> bytes:
        return list(self.device.pages.digests(ids(*prefix)))[-1]

    # --- what is always true ---

    @invariant()
    def both_agree(self) -> None:
        pages, model = self.device.pages, self.model
        assert (pages.num_free, pages.num_cached) == (model.free, len(model.idle))
        assert len(self.store) == len(model.tier)
        for tokens in self.seen:
            known = len(model.prefixes(tokens))
            cached = [prefix in model.cached for prefix in model.prefixes(tokens)]
            expected = [*cached, False].index(False)
            assert len(pages.match(ids(*tokens))) == expected <= known
        for prefix in model.tier:
            assert self.digest(prefix) in self.store
        for pair in self.living:
            assert pair.real.num_computed == pair.row.computed
            assert pair.real.num_pages == len(pair.row.cells)

    @invariant()
    def every_page_is_in_one_place(self) -> None:
        self.device.check(*(pair.real for pair in self.living))
        self.store.check_integrity()

    @invariant()
    def pinned_pages_stay(self) -> None:
        assert self.model.kept <= self.model.cached
        for prefix in self.model.kept:
            assert len(self.device.pages.match(ids(*prefix))) == len(prefix) // SIZE

    @invariant()
    def what_others_may_read_is_never_written(self) -> None:
        before, self.readable = self.readable, self.now_readable()
        for cell, (page, content) in self.readable.items():
            if cell in before and before[cell][0] == page:
                assert content == before[cell][1]

    def now_readable(self) -> dict[Cell, tuple[int, bytes]]:
        """Pages that are cached, or that two contexts share; with what is in them."""
        found: dict[Cell, int] = {}
        for pair in self.living:
            for cell, page in zip(pair.row.cells, pair.real.table.tolist(), strict=True):
                if not isinstance(cell, Box) or cell.references > 1:
                    assert found.setdefault(cell, page) == page
        for prefix in self.model.cached:
            found[prefix] = self.device.pages.match(ids(*prefix))[-1].page
        return {cell: (page, self.device.content(page)) for cell, page in found.items()}

    def teardown(self) -> None:
        if not hasattr(self, "living"):
            return
        for pair in self.living:
            pair.real.drop()
        self.device.check()


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
TestCacheMachine = CacheMachine.TestCase
