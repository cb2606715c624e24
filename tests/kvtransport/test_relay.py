"""Pools whose pages hold another number of tokens: every token finds its place."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.transfers import Arrived, Delivered, PageLayout, PoolShape
from bus.wire import GrantRefused
from kvtransport.fitting import differences
from kvtransport.layout import Offsets, num_pages_of
from kvtransport.mapped import copy_runs
from kvtransport.memory import MemoryNetwork
from kvtransport.relaying import relay

from .couriers import Engine, memory_engine

TOKEN_BYTES = 8
LAYOUT = PageLayout(model="m", dtype="float32", num_kv_heads=1, head_dim=2, version=1)


def pool(page_size: int, num_pages: int = 64, layout: PageLayout = LAYOUT) -> PoolShape:
    return PoolShape(
        num_layers=2,
        num_pages=num_pages,
        page_size=page_size,
        page_bytes=2 * page_size * TOKEN_BYTES,
        fingerprint=f"pages of {page_size}",
        layout=layout,
    )


def tokens_of(memory: np.ndarray, shape: PoolShape, pages: Offsets, count: int) -> np.ndarray:
    """[layer, half, token, bytes], as the engine would read them."""
    sizes = shape.num_layers, shape.num_pages, 2, shape.page_size, TOKEN_BYTES
    rows = memory.reshape(sizes)[:, pages].transpose(0, 2, 1, 3, 4)
    return rows.reshape(shape.num_layers, 2, -1, TOKEN_BYTES)[:, :, :count]


@given(
    sizes=st.tuples(st.sampled_from([1, 2, 4, 6, 16]), st.sampled_from([1, 3, 4, 8, 32])),
    count=st.integers(1, 60),
    seed=st.integers(0, 99),
    cut=st.integers(0, 60),
)
def test_every_token_lands_in_its_slot_of_the_other_layout(
    sizes: tuple[int, int], count: int, seed: int, cut: int
) -> None:
    ours, theirs = pool(sizes[0]), pool(sizes[1])
    random = np.random.default_rng(seed)
    local = random.permutation(64)[: num_pages_of(ours, 0, count)]
    remote = random.permutation(64)[: num_pages_of(theirs, 0, count)]
    source = random.integers(0, 256, ours.num_bytes, np.uint8)
    target = np.zeros(theirs.num_bytes, np.uint8)

    first = cut % len(local)
    for layer in range(2):
        copy_runs(source, target, relay(ours, theirs, layer, 0, (local[:first], remote)))
        copy_runs(source, target, relay(ours, theirs, layer, first, (local[first:], remote)))

    sent = tokens_of(source, ours, local, count)
    assert np.array_equal(tokens_of(target, theirs, remote, count), sent)
    others = np.setdiff1d(np.arange(64), remote)
    assert not target.reshape(2, 64, -1)[:, others].any()


def test_adjacent_tokens_are_one_run() -> None:
    runs = relay(pool(8), pool(4), 0, 0, (np.array([3]), np.array([1, 7])))

    assert len(runs) == 4
    assert runs.num_bytes.tolist() == [4 * TOKEN_BYTES] * 4


@pytest.mark.parametrize("lend", [False, True])
@pytest.mark.parametrize(("sender_size", "receiver_size"), [(16, 4), (4, 16), (4, 4)])
def test_engines_with_other_page_sizes_exchange_contexts(
    sender_size: int, receiver_size: int, lend: bool
) -> None:
    network = MemoryNetwork()
    sender = memory_engine(network, "prefill", pool(sender_size))
    receiver = memory_engine(network, "decode", pool(receiver_size))
    count = 37
    ours = list(range(9, 9 - num_pages_of(sender.shape, 0, count), -1))[:10]
    ours = ours if len(ours) * sender_size >= count else list(range(30, 40))
    theirs = list(range(1, 1 + num_pages_of(receiver.shape, 0, count)))
    sender.courier.buffer[:] = np.random.default_rng(1).bytes(sender.shape.num_bytes)

    grant = receiver.courier.grant("f", 1, 0, count, theirs)
    send(sender, grant, count, ours, lend)

    assert isinstance(receiver.event(), Arrived)
    assert isinstance(sender.event(), Delivered)
    got = [
        tokens_of(np.frombuffer(e.courier.buffer, np.uint8), e.shape, np.array(pages), count)
        for e, pages in ((sender, ours), (receiver, theirs))
    ]
    assert np.array_equal(got[0], got[1])
    sender.close()
    receiver.close()


def send(sender: Engine, grant: bytes, count: int, pages: list[int], lend: bool) -> None:
    sender.courier.open("f", 1, grant, 0, count)
    if lend:
        sender.courier.lend("f", 1, pages)
        return
    for layer in range(sender.shape.num_layers):
        sender.courier.write("f", 1, layer, 0, pages)
    sender.finish("f")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"dtype": "int8"}, "dtype is 'float32' at the sender and 'int8' at the receiver"),
        ({"model": "other"}, "model is 'm' at the sender and 'other' at the receiver"),
        ({"num_kv_heads": 3}, "num_kv_heads is 1 at the sender and 3 at the receiver"),
        ({"version": 2}, "version is 1 at the sender and 2 at the receiver"),
    ],
)
def test_what_cannot_be_laid_out_again_is_refused_in_words(
    changed: dict[str, object], words: str
) -> None:

    other = msgspec.structs.replace(LAYOUT, **changed)

    assert differences(pool(4), pool(8, layout=other)) == [words]


def test_a_context_that_begins_inside_our_page_is_refused() -> None:
    network = MemoryNetwork()
    sender = memory_engine(network, "prefill", pool(16))
    receiver = memory_engine(network, "decode", pool(4))
    grant = receiver.courier.grant("f", 1, 4, 20, [1, 2, 3, 4])

    with pytest.raises(GrantRefused, match="token 4 is inside a page of 16 tokens here") as refused:
        sender.courier.open("f", 1, grant, 4, 20)

    assert refused.value.reason == "bad_range"
    sender.close()
    receiver.close()
