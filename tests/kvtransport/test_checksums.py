"""Checksums: the same on both sides, of whatever layout; a byte that turns over is never used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed
from kvtransport.checksums import Checksums
from kvtransport.effects import Sum
from kvtransport.layout import Bytes, Runs, as_pages, num_pages_of
from kvtransport.mapped import copy_runs
from kvtransport.memory import MemoryNetwork
from kvtransport.relaying import relay
from kvtransport.transport import PeerId, Transport
from kvtransport.ucx import UcxTransport

from .couriers import Engine
from .shapes import shape
from .test_relay import pool

SHAPE = shape(num_pages=12, page_size=4, page_bytes=64)
PAGES = [3, 4, 9]


def sums_of(memory: Bytes, of: PoolShape, pages: list[int], num_tokens: int) -> bytes:
    found: list[bytes] = []
    checksums = Checksums(memory, of)
    checksums.add(Sum(1, as_pages(pages), num_tokens, of), found.append)
    while checksums.turn():
        pass
    return found[0]


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.sampled_from([1, 2, 4, 6, 16]), st.sampled_from([1, 3, 4, 8, 32])),
    count=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_pools_with_other_pages_have_the_same_sums(
    sizes: tuple[int, int], count: int, seed: int
) -> None:
    ours, theirs = pool(sizes[0]), pool(sizes[1])
    random = np.random.default_rng(seed)
    local = random.permutation(64)[: num_pages_of(ours, 0, count)]
    remote = random.permutation(64)[: num_pages_of(theirs, 0, count)]
    source = random.integers(0, 256, ours.num_bytes, np.uint8)
    target = random.integers(0, 256, theirs.num_bytes, np.uint8)
    for layer in range(2):
        copy_runs(source, target, relay(ours, theirs, layer, 0, (local, remote)))

    sent = sums_of(source, ours, local.tolist(), count)
    arrived = sums_of(target, theirs, remote.tolist(), count)

    assert sent == arrived
    assert len(sent) == 2 * 8


@given(st.data())
def test_every_byte_counts_and_no_other(data: st.DataObject) -> None:
    memory = np.random.default_rng(1).integers(0, 256, SHAPE.num_bytes, np.uint8)
    before = sums_of(memory, SHAPE, PAGES, 12)

    at = data.draw(st.integers(0, SHAPE.num_bytes - 1))
    memory[at] ^= 1 << data.draw(st.integers(0, 7))
    after = sums_of(memory, SHAPE, PAGES, 12)

    page = at // SHAPE.page_bytes % SHAPE.num_pages
    layer = at // SHAPE.page_bytes // SHAPE.num_pages
    changed = [n for n in range(3) if before[8 * n : 8 * n + 8] != after[8 * n : 8 * n + 8]]
    assert changed == ([layer] if page in PAGES else [])


def test_a_dropped_sum_is_never_told() -> None:
    told: list[bytes] = []
    checksums = Checksums(np.zeros(SHAPE.num_bytes, np.uint8), SHAPE)
    checksums.add(Sum(1, as_pages(PAGES), 12, SHAPE), told.append)

    checksums.drop(1)

    assert not checksums.turn()
    assert told == []


# --- on a network that turns a bit over -----------------------------------------------------------


class Flips:
    """A transport that turns over a bit of what it puts, and of what it gets. Its lane is shared
    memory, where a put is over when it returns."""

    flips = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def allocate(self, num_bytes: int) -> memoryview:
        block = self._transport.allocate(num_bytes)
        self._content = np.frombuffer(block, np.uint8)
        return block

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._flip(runs)
        self._transport.put(peer, memory, runs)
        self._flip(runs)

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._transport.get(peer, memory, runs)
        self._flip(runs)

    def _flip(self, runs: Runs) -> None:
        if self.flips:
            self._content[runs.local[0]] ^= 4


Pair = tuple[Engine, Engine]


def flipping(transport: Transport) -> Transport:
    return cast(Transport, Flips(transport))


def twins() -> tuple[Transport, Transport]:
    network = MemoryNetwork()
    return flipping(network.transport()), flipping(network.transport())


@pytest.fixture(params=["twin", "ucx"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A sender and a receiver that asks for checksums."""
    ends = (
        twins() if request.param == "twin" else (flipping(UcxTransport()), flipping(UcxTransport()))
    )
    engines = (
        Engine("prefill", SHAPE, ends[0]),
        Engine("decode", SHAPE, ends[1], checksums=True),
    )
    engines[0].fill([1, 2, 3], 7)
    yield engines
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("verb", ["send", "lend"])
def test_a_bit_that_turns_over_is_refused_on_both_sides(pair: Pair, verb: str) -> None:
    sender, receiver = pair

    grant = receiver.grant("f", PAGES)
    getattr(sender, verb)("f", grant, [1, 2, 3])
    failed, fenced = sender.event(), receiver.event()

    assert isinstance(failed, SendFailed)
    assert isinstance(fenced, Fenced)
    assert failed.kind == fenced.kind == "corrupt"
    assert "the checksums differ" in failed.reason


@pytest.mark.parametrize("verb", ["send", "lend"])
def test_what_is_whole_arrives_with_the_same_pages_after_a_refusal(pair: Pair, verb: str) -> None:
    sender, receiver = pair
    getattr(sender, verb)("f", receiver.grant("f", PAGES), [1, 2, 3])
    sender.event()
    receiver.event()

    for engine in pair:
        engine.transport.flips = False  # type: ignore[attr-defined]
    getattr(sender, verb)("g", receiver.grant("g", PAGES), [1, 2, 3])

    assert isinstance(receiver.event(), Arrived)
    assert isinstance(sender.event(), Delivered)
    assert receiver.digest(PAGES) == sender.digest([1, 2, 3])


def test_without_checksums_nobody_notices() -> None:
    ends = twins()
    sender, receiver = Engine("prefill", SHAPE, ends[0]), Engine("decode", SHAPE, ends[1])

    sender.send("f", receiver.grant("f", PAGES), [1, 2, 3])

    assert isinstance(receiver.event(), Arrived)
    assert receiver.digest(PAGES) != sender.digest([1, 2, 3])
    sender.close()
    receiver.close()


def test_a_sender_that_checks_is_checked_by_every_receiver() -> None:
    ends = twins()
    sender = Engine("prefill", SHAPE, ends[0], checksums=True)
    receiver = Engine("decode", SHAPE, ends[1])

    sender.send("f", receiver.grant("f", PAGES), [1, 2, 3])
    fenced = receiver.event()

    assert isinstance(fenced, Fenced)
    assert fenced.kind == "corrupt"
    sender.close()
    receiver.close()
