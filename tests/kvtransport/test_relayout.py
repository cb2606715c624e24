"""Pools with other numbers and other heads: each number finds its place, in its new type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bus.transfers import Arrived, Delivered, Fenced, PageLayout, PoolShape, SendFailed
from bus.wire import GrantRefused
from kvtransport.casting import ITEM_BYTES, Cast
from kvtransport.fitting import differences
from kvtransport.heads import heads_of, uncovered
from kvtransport.layout import as_pages, num_pages_of
from kvtransport.mapped import copy_runs
from kvtransport.memory import MemoryNetwork
from kvtransport.relaying import relay
from kvtransport.staging import STAGING_BYTES
from kvtransport.transport import Transport
from kvtransport.ucx import UcxTransport

from .couriers import Engine

NUM_LAYERS, HEAD_DIM, NUM_PAGES = 2, 4, 64


def layout(heads: int = 4, ranks: int = 1, rank: int = 0, dtype: str = "float32") -> PageLayout:
    return PageLayout("m", dtype, heads, HEAD_DIM, version=1, tensor_parallel=ranks, rank=rank)


def pool(of: PageLayout, page_size: int = 4, num_pages: int = NUM_PAGES) -> PoolShape:
    begin, end = heads_of(of)
    page_bytes = 2 * page_size * (end - begin) * HEAD_DIM * ITEM_BYTES[of.dtype]
    return PoolShape(NUM_LAYERS, num_pages, page_size, page_bytes, f"{of} {page_size}", of)


def numbers_of(memory: Any, shape: PoolShape, pages: Any, count: int) -> np.ndarray:
    """[layer, half, token, head, dim] as float32."""
    assert shape.layout
    content = np.frombuffer(memory, np.uint8)[: shape.num_bytes]
    wide = Cast(shape.layout.dtype, "float32")(content).view(np.float32)
    begin, end = heads_of(shape.layout)
    sizes = shape.num_layers, shape.num_pages, 2, shape.page_size, end - begin, HEAD_DIM
    rows = wide.reshape(sizes)[:, pages].transpose(0, 2, 1, 3, 4, 5)
    return rows.reshape(shape.num_layers, 2, -1, end - begin, HEAD_DIM)[:, :, :count]


# --- which heads ----------------------------------------------------------------------------------


@given(st.sampled_from([1, 2, 3, 4, 6, 8, 12]), st.integers(1, 24))
def test_ranks_share_all_heads_evenly_or_cannot(heads: int, ranks: int) -> None:
    layouts = [layout(heads, ranks, rank) for rank in range(ranks)]
    if heads % ranks and ranks % heads:
        with pytest.raises(ValueError, match="one must divide the other"):
            heads_of(layouts[0])
        return

    held = [head for one in layouts for head in range(*heads_of(one))]

    assert sorted(held) == sorted(list(range(heads)) * max(1, ranks // heads))


def test_a_rank_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2: it must be from 0 to 1"):
        heads_of(layout(4, 2, 2))


@settings(max_examples=80)
@given(
    shares=st.sampled_from([(8, 1, 2), (8, 2, 4), (8, 1, 8), (2, 1, 4), (4, 4, 8), (6, 1, 3)]),
    sizes=st.tuples(st.sampled_from([1, 4, 6]), st.sampled_from([1, 3, 8])),
    count=st.integers(1, 40),
    cut=st.integers(0, 40),
)
def test_all_ranks_together_have_every_head_of_every_token(
    shares: tuple[int, int, int], sizes: tuple[int, int], count: int, cut: int
) -> None:
    heads, our_ranks, their_ranks = shares
    random = np.random.default_rng(count)
    for their_rank in range(their_ranks):
        target_layout = layout(heads, their_ranks, their_rank)
        sources = [layout(heads, our_ranks, rank) for rank in range(our_ranks)]
        source_layout = next(one for one in sources if not uncovered(one, target_layout))
        ours, theirs = pool(source_layout, sizes[0]), pool(target_layout, sizes[1])
        local = random.permutation(NUM_PAGES)[: num_pages_of(ours, 0, count)]
        remote = random.permutation(NUM_PAGES)[: num_pages_of(theirs, 0, count)]
        source = random.random(ours.num_bytes // 4, np.float32).view(np.uint8)
        target = np.zeros(theirs.num_bytes, np.uint8)

        first = cut % len(local)
        for layer in range(NUM_LAYERS):
            copy_runs(source, target, relay(ours, theirs, layer, 0, (local[:first], remote)))
            copy_runs(source, target, relay(ours, theirs, layer, first, (local[first:], remote)))

        sent = numbers_of(source, ours, local, count)
        skipped = heads_of(target_layout)[0] - heads_of(source_layout)[0]
        got = numbers_of(target, theirs, remote, count)
        assert np.array_equal(got, sent[:, :, :, skipped : skipped + got.shape[3]])
        others = np.setdiff1d(np.arange(NUM_PAGES), remote)
        assert not target.reshape(NUM_LAYERS, NUM_PAGES, -1)[:, others].any()


def test_heads_that_one_writer_does_not_have_are_refused_in_words() -> None:
    assert differences(pool(layout(8, 2, 1)), pool(layout(8))) == [
        "the sender has KV heads [4, 8) and the receiver wants [0, 8)"
    ]
    assert differences(pool(layout(8)), pool(layout(8, 2, 1))) == []


# --- as transfers ---------------------------------------------------------------------------------


def transports(kind: str) -> tuple[Transport, Transport]:
    if kind == "ucx":
        return UcxTransport(), UcxTransport()
    network = MemoryNetwork()
    return network.transport(), network.transport()


@pytest.fixture(params=["memory", "ucx"])
def ends(request: pytest.FixtureRequest) -> tuple[Transport, Transport]:
    return transports(request.param)


class Pair:
    """A sender whose pool is full of small numbers, and a receiver."""

    def __init__(
        self, ends: tuple[Transport, Transport], ours: PoolShape, theirs: PoolShape, **more: Any
    ) -> None:
        self.sender = Engine("prefill", ours, ends[0], **more)
        self.receiver = Engine("decode", theirs, ends[1], **more)
        self.fill(1.0)

    def fill(self, scale: float) -> None:
        shape = self.sender.shape
        assert shape.layout
        size = shape.num_bytes // ITEM_BYTES[shape.layout.dtype]
        numbers = (np.random.default_rng(5).random(size, np.float32) - 0.5) * scale
        narrow = Cast("float32", shape.layout.dtype)(numbers.view(np.uint8))
        self.sender.courier.buffer[:] = narrow.tobytes()

    def transfer(self, flow: str, count: int, lend: bool) -> tuple[list[int], list[int]]:
        local = list(range(60, 60 - num_pages_of(self.sender.shape, 0, count), -1))
        remote = list(range(1, 1 + num_pages_of(self.receiver.shape, 0, count)))
        grant = self.receiver.courier.grant(flow, 1, 0, count, remote)
        self.sender.courier.open(flow, 1, grant, 0, count)
        if lend:
            self.sender.courier.lend(flow, 1, local)
        else:
            for layer in range(NUM_LAYERS):
                self.sender.courier.write(flow, 1, layer, 0, local)
            self.sender.finish(flow)
        return local, remote

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


@pytest.fixture
def made() -> Iterator[list[Pair]]:
    pairs: list[Pair] = []
    yield pairs
    for pair in pairs:
        pair.close()


@pytest.mark.parametrize("checksums", [False, True])
@pytest.mark.parametrize("lend", [False, True])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("float32", "bfloat16"),
        ("bfloat16", "float32"),
        ("float16", "bfloat16"),
        ("float32", "float16"),
    ],
)
def test_engines_with_other_numbers_exchange_contexts(
    ends: tuple[Transport, Transport],
    made: list[Pair],
    source: str,
    target: str,
    lend: bool,
    checksums: bool,
) -> None:
    ours, theirs = pool(layout(dtype=source)), pool(layout(dtype=target), page_size=8)
    pair = Pair(ends, ours, theirs, checksums=checksums)
    made.append(pair)

    local, remote = pair.transfer("f", 37, lend)

    assert isinstance(pair.receiver.event(), Arrived)
    assert isinstance(pair.sender.event(), Delivered)
    sent = numbers_of(pair.sender.courier.buffer, ours, local, 37)
    got = numbers_of(pair.receiver.courier.buffer, theirs, remote, 37)
    rounded = Cast("float32", target)(sent.reshape(-1).view(np.uint8))
    wide = Cast(target, "float32")(rounded).view(np.float32)
    assert np.array_equal(got.reshape(-1), wide)


@pytest.mark.parametrize("checksums", [False, True])
@pytest.mark.parametrize("lend", [False, True])
def test_a_rank_of_two_gets_its_heads_from_an_engine_that_has_all(
    ends: tuple[Transport, Transport], made: list[Pair], lend: bool, checksums: bool
) -> None:
    ours, theirs = pool(layout(4)), pool(layout(4, 2, 1), page_size=8)
    pair = Pair(ends, ours, theirs, checksums=checksums)
    made.append(pair)

    local, remote = pair.transfer("f", 37, lend)

    assert isinstance(pair.receiver.event(), Arrived)
    assert isinstance(pair.sender.event(), Delivered)
    sent = numbers_of(pair.sender.courier.buffer, ours, local, 37)
    got = numbers_of(pair.receiver.courier.buffer, theirs, remote, 37)
    assert np.array_equal(got, sent[:, :, :, 2:])


def test_an_engine_that_has_some_heads_is_refused_by_one_that_wants_all(made: list[Pair]) -> None:
    pair = Pair(transports("memory"), pool(layout(4, 2, 1)), pool(layout(4)))
    made.append(pair)

    with pytest.raises(GrantRefused, match=r"KV heads \[2, 4\) and the receiver wants \[0, 4\)"):
        pair.transfer("f", 8, lend=False)


def test_numbers_that_do_not_fit_end_the_transfer_and_free_the_pages(
    ends: tuple[Transport, Transport], made: list[Pair]
) -> None:
    pair = Pair(ends, pool(layout()), pool(layout(dtype="float16")))
    made.append(pair)
    pair.fill(1e6)

    pair.transfer("f", 37, lend=False)
    failed, fenced = pair.sender.event(), pair.receiver.event()
    pair.fill(1.0)
    pair.transfer("g", 37, lend=False)

    assert isinstance(failed, SendFailed)
    assert "does not fit float16" in failed.reason
    assert isinstance(fenced, Fenced)
    assert isinstance(pair.receiver.event(), Arrived)


def test_a_context_larger_than_the_staging_area_is_converted_in_pieces(made: list[Pair]) -> None:
    wide = replace(layout(), head_dim=HEAD_DIM)
    ours, theirs = (pool(replace(wide, dtype=dtype), 1024) for dtype in ("float32", "bfloat16"))
    pair = Pair(transports("memory"), ours, theirs)
    made.append(pair)
    count = 50 * 1024

    local, remote = pair.transfer("f", count, lend=False)

    assert theirs.page_bytes * 50 * NUM_LAYERS > 2 * STAGING_BYTES
    assert isinstance(pair.receiver.event(), Arrived)
    sent = numbers_of(pair.sender.courier.buffer, ours, local, count)
    got = numbers_of(pair.receiver.courier.buffer, theirs, as_pages(remote), count)
    assert np.allclose(got, sent, rtol=2**-8)


def test_a_receiver_that_is_lost_does_not_keep_the_staging_area(made: list[Pair]) -> None:
    network = MemoryNetwork()
    ours, theirs = pool(layout()), pool(layout(dtype="bfloat16"))
    lost = network.transport()
    pair = Pair((network.transport(), lost), ours, theirs)
    other = Engine("another", theirs, network.transport())
    made.append(pair)

    pair.transfer("f", 37, lend=False)
    lost.die()
    assert isinstance(pair.sender.event(), SendFailed | Delivered)
    grant = other.courier.grant("g", 1, 0, 8, [1, 2])
    pair.sender.send("g", grant, [3, 4])

    assert isinstance(other.event(), Arrived)
    other.close()
