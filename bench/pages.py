"""Page bookkeeping and scheduling beside much: 10,000 cached sequences, a million pages.

Each ratio is what an operation costs beside much over what it costs beside little, medians of calls
that take turns. The engine is the real one; its model computes nothing, so that what is left is
bookkeeping.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter_ns

import numpy as np
from msgspec import Struct

from bus.messages import Mailbox, Order, Query, Sampling, StartGenerate
from bus.tokens import Tokens
from bus.transfers import PoolShape
from engine.config import EngineConfig
from engine.context import Context
from engine.engine import Engine
from engine.fake import FakeDetokenizer
from engine.page_memory import HostPageMemory
from engine.pages import Pages
from engine.rank import Rank
from engine.runner import Ids, ModelCard, OnLayer, Row, Sampled

from .report import AtMost, Result

PAGE_SIZE = 16
PAGES_EACH = 32
PROMPT = PAGE_SIZE * PAGES_EACH
VOCABULARY = 2**31 - 1


class Plan(Struct, frozen=True):
    few_sequences: int = 10
    many_sequences: int = 10_000
    few_pages: int = 10_000
    many_pages: int = 1_000_000
    num_times: int = 400


class Idler:
    """A runner that answers without computing: there is no memory behind its pages."""

    def __init__(self, num_pages: int) -> None:
        shape = PoolShape(1, num_pages, PAGE_SIZE, 0, "idle")
        self.card = ModelCard("idle", VOCABULARY, 1 << 20, frozenset(), shape)
        self.page_memory = HostPageMemory(bytearray(), shape)

    def run(self, rows: list[Row], on_layer: OnLayer | None = None) -> list[tuple[Sampled, ...]]:
        return [(Sampled(7),) * len(row.choices) for row in rows]


class Beside:
    """An engine whose prefix cache holds ``num_sequences`` sequences of 512 tokens that have
    nothing in common, in a pool of ``num_pages``."""

    def __init__(self, num_sequences: int, num_pages: int) -> None:
        self.engine = Engine(
            EngineConfig("pages", 1, max_batch_tokens=2048, prefill_chunk=2048),
            Idler(num_pages),
            FakeDetokenizer,
            None,
            lambda: 0.0,
        )
        self.pages = self.engine._parts.pages
        self._serial = 0
        for _ in range(num_sequences):
            self.computed(self.prompt()).drop()
        self.known = self.prompt()
        self.computed(self.known).drop()

    def prompt(self) -> Ids:
        """Tokens that nobody has seen."""
        self._serial += 1
        begin = self._serial * PROMPT
        return np.arange(begin, begin + PROMPT, dtype=np.int32)

    def computed(self, tokens: Ids) -> Context:
        context = Context(self.pages, Rank.of(0, self._serial), tokens, len(tokens))
        context.grow(len(tokens))
        context.num_computed = len(tokens)
        context.publish(len(tokens))
        return context

    # --- what is measured: each returns nanoseconds of one operation ---

    def match(self, num_tokens: int = PROMPT) -> int:
        tokens = self.known[:num_tokens]
        return _ns(lambda: self.pages.match(tokens))

    def take_and_drop(self) -> int:
        def use() -> None:
            context = Context(self.pages, Rank.of(0, self._serial), self.known, PROMPT)
            context.grow(PROMPT)
            context.drop()

        return _ns(use)

    def publish(self) -> int:
        tokens = self.prompt()
        return _ns(lambda: self.computed(tokens).drop())

    def statistics(self) -> int:
        return _ns(self.engine.statistics)

    def query(self) -> int:
        order = Order("q", 1, "r", Query("pages", Tokens(self.known)))
        return _ns(lambda: self.engine.handle(order, 0.0))

    def serve(self) -> int:
        """A request of 512 new tokens and an answer of 8, from its order to its end."""
        sampling = Sampling(max_tokens=8)
        command = StartGenerate("pages", Tokens(self.prompt()), 0, sampling, Mailbox("box"))
        order = Order(f"f{self._serial}", 1, "r", command)

        def use() -> None:
            self.engine.handle(order, 0.0)
            while self.engine.has_work:
                self.engine.step(0.0)

        return _ns(use)

    def fill(self) -> None:
        """Take all free pages, so that every page taken from now on is evicted."""
        self.pages.take(self.pages.num_free)


WITH_FREE_PAGES = ("match", "take_and_drop", "statistics", "query")
EVICTING = ("publish", "serve")


def run() -> Result:
    return measure(Plan())


def measure(plan: Plan) -> Result:
    many = Beside(plan.many_sequences, plan.many_pages)
    medians_ns = {
        **_compared("cached", plan, Beside(plan.few_sequences, plan.many_pages), many),
        **_compared("pages", plan, *(Beside(plan.few_sequences, n) for n in _sizes(plan))),
        "startup_1m_over_10k_pages": _medians(plan, *(partial(_startup, n) for n in _sizes(plan))),
        "match_512_over_256_tokens": _medians(
            plan, *(partial(many.match, PROMPT // n) for n in (2, 1))
        ),
    }
    ratios = {name: much / little for name, (little, much) in medians_ns.items()}
    figures = {f"{name.partition('_over_')[0]}_us": ns[1] / 1e3 for name, ns in medians_ns.items()}
    targets = dict.fromkeys(ratios, AtMost(1.5)) | {
        "startup_1m_over_10k_pages": AtMost(20),  # a scan would make it a hundred
        "match_512_over_256_tokens": AtMost(2.2),
    }
    return Result("pages", ratios, {**figures}, {**targets})


def _compared(
    name: str, plan: Plan, little: Beside, much: Beside
) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for operations, prepare in ((WITH_FREE_PAGES, None), (EVICTING, Beside.fill)):
        for beside in (little, much):
            if prepare:
                prepare(beside)
        for operation in operations:
            measured = (getattr(beside, operation) for beside in (little, much))
            found[f"{operation}_{_SUFFIX[name]}"] = _medians(plan, *measured)
    return found


_SUFFIX = {"cached": "10k_over_10_cached", "pages": "1m_over_10k_pages"}


def _sizes(plan: Plan) -> tuple[int, int]:
    return plan.few_pages, plan.many_pages


def _startup(num_pages: int) -> int:
    return _ns(lambda: Pages(num_pages, PAGE_SIZE))


def _medians(plan: Plan, little: Callable[[], int], much: Callable[[], int]) -> tuple[float, float]:
    """Nanoseconds of both, which take turns: a slow moment of the machine meets both."""
    little_ns: list[int] = []
    much_ns: list[int] = []
    for _ in range(plan.num_times):
        little_ns.append(little())
        much_ns.append(much())
    return median(little_ns), median(much_ns)


def _ns(operation: Callable[[], object]) -> int:
    began_ns = perf_counter_ns()
    operation()
    return perf_counter_ns() - began_ns
