"""What cannot be carried out for one transfer ends that one, in words, and none beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from bus.transfers import Arrived, Delivered, Fenced, SendFailed, TransferEvent
from kvtransport import grants
from kvtransport.courier import Courier, CourierConfig, steady_clock
from kvtransport.effects import Drop, Flush, Send, Tell
from kvtransport.memory import MemoryNetwork, MemoryTransport
from kvtransport.protocol import Refuse

from .couriers import KEY, Engine, memory_engine, ucx_engine
from .ledgers import NAME, THERE
from .shapes import shape
from .test_lending import reading
from .test_relayout import layout, pool
from .worlds import kv_threads

SMALL = (64).to_bytes(8, "little")
"""A pool of 64 bytes, to the in-memory twin."""


@pytest.fixture
def network() -> Iterator[MemoryNetwork]:
    yield MemoryNetwork()
    assert kv_threads() == []


def closed(*engines: Engine) -> None:
    for engine in engines:
        engine.close()


def with_memory(grant: bytes, memory: bytes) -> bytes:
    """The grant as its maker would have signed it."""
    return grants.seal(replace(grants.unseal(grant, KEY, 0.0), memory=memory), KEY)


def test_a_put_beyond_the_receivers_pool_ends_its_transfer_in_words(
    network: MemoryNetwork,
) -> None:
    receiver = memory_engine(network, "decode", shape())
    sender = memory_engine(network, "prefill", shape())
    wrong = with_memory(receiver.grant("f1", [7, 2]), SMALL)
    right = receiver.grant("f2", [3])

    sender.send("f1", wrong, [5, 6])
    sender.send("f2", right, [5])

    failed, delivered = sender.event(), sender.event()
    assert isinstance(failed, SendFailed)
    assert "runs reach to bytes" in failed.reason
    assert isinstance(delivered, Delivered)
    ends = {(type(end), end.flow) for end in (receiver.event(), receiver.event())}
    assert ends == {(Fenced, "f1"), (Arrived, "f2")}
    assert sender.transport.statistics().failed == 0
    closed(receiver, sender)


def test_a_memory_that_ucx_cannot_read_ends_its_transfer_on_both_sides() -> None:
    receiver, sender = ucx_engine("decode", shape()), ucx_engine("prefill", shape())
    wrong = with_memory(receiver.grant("f1", [7, 2]), b"nothing")

    sender.send("f1", wrong, [5, 6])

    failed, fenced = sender.event(), receiver.event()
    assert isinstance(failed, SendFailed)
    assert failed.reason == "7 bytes say nothing of a pool"
    assert isinstance(fenced, Fenced)
    closed(receiver, sender)


def test_a_conversion_for_a_pool_that_is_too_small_leaves_the_staging_area_to_others(
    network: MemoryNetwork,
) -> None:
    receiver = memory_engine(network, "decode", pool(layout(dtype="bfloat16")))
    sender = memory_engine(network, "prefill", pool(layout()))
    wrong = with_memory(receiver.grant("f1", [7, 2]), SMALL)
    right = receiver.grant("f2", [3])

    sender.send("f1", wrong, [5, 6])
    failed = sender.event()
    sender.send("f2", right, [5])

    assert isinstance(failed, SendFailed)
    assert "runs reach to bytes" in failed.reason
    assert isinstance(sender.event(), Delivered)
    closed(receiver, sender)


def test_a_reader_that_is_shown_less_than_was_lent_refuses_it() -> None:
    effects = reading().stuck(-5, "there is no such page", 3.0)

    assert [type(effect) for effect in effects] == [Drop, Flush]
    made = reading()
    made.stuck(-5, "there is no such page", 3.0)
    assert made.flushed(-5, "sysv", 3.5) == [
        Send(THERE, Refuse(5, 1, "transfer_failed", "there is no such page")),
        Tell(Fenced(*NAME, "there is no such page")),
    ]


def test_an_ear_that_fails_for_one_transfer_hears_of_the_others(network: MemoryNetwork) -> None:
    heard: list[TransferEvent] = []

    def hear(event: TransferEvent) -> None:
        heard.append(event)
        if event.flow == "f1":
            raise RuntimeError("no more")

    config = CourierConfig("decode", 1, shape(), KEY)
    transport: MemoryTransport = network.transport()
    with Courier(config, transport, steady_clock(), hear) as courier:
        for flow in ("f1", "f2", "f3"):
            courier.grant(flow, 1, 0, 4, [1])

    assert [(type(event), event.flow) for event in heard] == [
        (Fenced, "f1"),
        (Fenced, "f2"),
        (Fenced, "f3"),
    ]
    assert courier.statistics().failed == 1
