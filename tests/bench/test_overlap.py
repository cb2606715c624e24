"""The benchmark of overlap: its engines with stand-ins for model and network, and what it makes of
what it saw."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.driven_engine import DrivenEngine, Failed
from bench.overlap import HUNDREDTH, SHARED, TENTH, Point, result, table
from bench.overlap_plot import plot
from bus.tokens import Tokens
from bus.transfers import TransferEvent
from engine.config import EngineConfig
from engine.engine import Engine
from engine.fake import FakeDetokenizer, FakeRunner, fake_card
from kvtransport.courier import Courier, CourierConfig, steady_clock
from kvtransport.memory import MemoryNetwork

PROMPT = Tokens(range(40))


class Pair:
    """Two engines that can send to each other."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._network = stack, MemoryNetwork()
        self.sender, self.receiver = self._engine("sender"), self._engine("receiver")

    def _engine(self, name: str) -> DrivenEngine:
        card = fake_card(num_pages=32, page_size=4)
        events: queue.Queue[TransferEvent] = queue.Queue()
        config = CourierConfig(name, 1, card.shape, b"key")
        transport = self._network.transport()
        courier = Courier(config, transport, steady_clock(), events.put)
        self._stack.enter_context(courier)
        runner = FakeRunner(card, courier.buffer)
        engine = Engine(EngineConfig(name, 0), runner, FakeDetokenizer, courier, time.perf_counter)
        return DrivenEngine(engine, events)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(stack)


def test_a_prompt_is_computed_and_sent_and_received(pair: Pair) -> None:
    grant = pair.receiver.prepare("f1", PROMPT)

    done = pair.sender.send("f1", PROMPT, grant)
    pair.receiver.receive("f1")

    assert done.sent.num_bytes == 2 * 40 * 8
    assert done.sent.matched == 0
    assert done.prefill_s > 0


def test_a_prompt_for_nobody_is_only_computed(pair: Pair) -> None:
    assert pair.sender.prefill("f1", PROMPT) > 0


def test_a_refusal_ends_the_benchmark_in_words(pair: Pair) -> None:
    with pytest.raises(Failed, match="RemoteSend of f1: bad_message"):
        pair.sender.send("f1", PROMPT, b"no grant")


def point(link: str, num_tokens: int, exposed_s: float, prefill_s: float = 1.0) -> Point:
    return Point(link, num_tokens, 1.0, prefill_s, exposed_s, 10**9, 0.5)


def test_the_share_is_that_of_the_worst_long_prompt_and_short_ones_do_not_count() -> None:
    found = result(
        [
            point(SHARED, 256, exposed_s=0.9),
            *(point(SHARED, 1024, exposed_s) for exposed_s in (0.01, 0.02, 0.9)),
            point(SHARED, 2048, exposed_s=0.04, prefill_s=2.0),
            point(TENTH, 2048, exposed_s=0.3, prefill_s=1.1),
        ]
    )

    assert found.ratios["exposed_share_of_prefill_shared"] == pytest.approx(0.02)
    assert found.ratios["exposed_share_of_prefill_tenth"] == pytest.approx(0.3 / 1.1)
    assert found.missed() == ["prefill_vs_alone_tenth"]
    assert found.figures["gb_per_s_shared_1024"] == 2.0


def test_the_table_has_a_row_for_every_length_of_every_link() -> None:
    told = table([point(SHARED, 1024, exposed_s) for exposed_s in (0.01, 0.03)])

    assert told.splitlines()[2] == "| shared memory | 1024 | 1.00 s | 1.00 s | 20.0 ms | 2.00% |"


def test_the_picture_has_a_line_for_every_link(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    links = (SHARED, TENTH, HUNDREDTH)
    points = [point(link, n, exposed_s=0.1) for link in links for n in (256, 1024)]

    plot(points, tmp_path / "overlap.svg")

    assert (tmp_path / "overlap.svg").read_text().count("<!-- sent over ") == len(links)
