"""What a request costs does not grow with what is cached, waiting or resting beside it.

Counted in bytecodes that the interpreter executes, which no clock and no neighbour can change. What
runs inside one call of C is not seen; `python -m bench pages` measures it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from bus.messages import Order, Query, Sampling, StartGenerate
from bus.tokens import Tokens
from engine.config import EngineConfig
from engine.context import Context
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from engine.pages import Pages
from engine.rank import Rank

from .rig import BOX

SIZE = 4
PAGES_EACH = 3


def bytecodes(call: Callable[[], object]) -> int:
    """Executed while ``call`` runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def filled(pages: Pages, num_sequences: int) -> None:
    """So many cached sequences that have nothing in common."""
    for serial in range(num_sequences):
        begin = serial * PAGES_EACH * SIZE
        tokens = np.arange(begin, begin + PAGES_EACH * SIZE, dtype=np.int32)
        context = Context(pages, Rank.of(0, serial), tokens, len(tokens))
        context.grow(len(tokens))
        context.num_computed = len(tokens)
        context.publish(len(tokens))
        context.drop()


def engine(num_cached: int, num_waiting: int = 0, spare_pages: int = 40) -> Engine:
    num_pages = num_cached * PAGES_EACH + spare_pages
    runner = FakeRunner(fake_card(num_pages=num_pages, page_size=SIZE))
    config = EngineConfig("a", 1, max_running=2, max_waiting=100_000)
    made = Engine(config, runner, FakeDetokenizer, None, lambda: 0.0)
    filled(made._parts.pages, num_cached)
    for number in range(num_waiting):
        start(made, f"w{number}", range(600, 602))
    made.step(0.0)
    return made


def start(engine: Engine, flow: str, prompt: range, priority: int = 0) -> None:
    command = StartGenerate("a", Tokens(prompt), 0, Sampling(max_tokens=40), BOX)
    engine.handle(Order(flow, 1, "r", command, priority=priority), 0.0)


def ask(engine: Engine) -> None:
    engine.handle(Order("q", 1, "r", Query("a", Tokens(range(24)))), 0.0)


def serve(engine: Engine) -> None:
    """A request that finds a prefix and goes before all that wait, from its order to its end."""
    start(engine, "f", range(30), priority=9)
    for _ in range(41):
        engine.step(0.0)


@pytest.mark.parametrize(
    "use",
    [serve, ask, Engine.statistics, lambda engine: engine.step(0.0)],
    ids=["serve", "ask", "look", "step"],
)
def test_ten_or_three_thousand_cached_sequences_make_no_difference(
    use: Callable[[Engine], object],
) -> None:
    few, many = (bytecodes(partial(use, engine(n))) for n in (10, 3000))

    assert many <= few * 1.02 + 20


def test_eviction_costs_the_same_however_much_is_cached() -> None:
    few, many = (bytecodes(partial(serve, engine(n, spare_pages=0))) for n in (10, 3000))

    assert many <= few * 1.1, "free runs are found in a few size classes more"


@pytest.mark.parametrize("use", [serve, ask, Engine.statistics], ids=["serve", "ask", "look"])
def test_ten_or_two_thousand_waiting_requests_make_no_difference(
    use: Callable[[Engine], object],
) -> None:
    few, many = (bytecodes(partial(use, engine(9, n))) for n in (10, 2000))

    assert many <= few * 1.1, "logarithms of how many wait"


def test_a_waiting_request_is_taken_away_without_a_search() -> None:
    def leave(made: Engine) -> None:
        flow = made._parts.flows.current("w9")
        assert flow
        made._generating.drop(flow)

    few, many = (bytecodes(partial(leave, engine(9, n))) for n in (10, 2000))

    assert many <= few + 20


@pytest.mark.parametrize("num_cached", [10, 3000])
def test_a_match_costs_twice_as_much_for_twice_the_prompt(num_cached: int) -> None:
    pages = Pages(num_cached * PAGES_EACH + 3000, SIZE)
    filled(pages, num_cached)
    long = np.arange(1_000_000, 1_008_000, dtype=np.int32)
    context = Context(pages, Rank.of(0, 99_999), long, len(long))
    context.grow(len(long))
    context.num_computed = len(long)
    context.publish(len(long))

    half, whole = (bytecodes(partial(pages.match, long[:n])) for n in (4000, 8000))

    assert whole <= 2.02 * half
