"""Two engines' couriers over the in-memory twin: what the engine sees of a transfer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bus.transfers import Arrived, Delivered, Fenced, SendFailed
from bus.wire import GrantRefused, Wire
from kvtransport.memory import MemoryNetwork, MemoryTransport
from kvtransport.transport import TransportClosed

from .couriers import Engine, memory_engine
from .shapes import shape
from .worlds import kv_threads

SHAPE = shape(num_pages=16)


@dataclass
class Pair:
    """A clock that stands still, and two engines."""

    receiver: Engine
    sender: Engine
    now: float

    def settle(self) -> None:
        """Wait until every message and its answers were heard, and the clock was looked at."""
        for _ in range(8):
            self.receiver.reach()
            self.sender.reach()

    def pass_time(self, seconds: float) -> None:
        self.settle()
        self.now += seconds
        self.settle()


@pytest.fixture
def pair() -> Iterator[Pair]:
    network = MemoryNetwork()
    pair = Pair.__new__(Pair)
    pair.now = 1e9
    pair.receiver = memory_engine(network, "decode", SHAPE, clock=lambda: pair.now)
    pair.sender = memory_engine(network, "prefill", shape(num_pages=20), clock=lambda: pair.now)
    yield pair
    pair.receiver.close()
    pair.sender.close()
    assert kv_threads() == []


def test_a_courier_is_a_wire(pair: Pair) -> None:
    wire: Wire = pair.receiver.courier

    assert wire is not None


def test_every_layer_of_every_page_arrives(pair: Pair) -> None:
    pair.sender.fill([3, 4, 9], seed=1)
    grant = pair.receiver.grant("f1", [7, 2, 3])

    pair.sender.send("f1", grant, [3, 4, 9])

    assert pair.receiver.event() == Arrived("f1", 1, num_bytes=3 * 3 * 64)
    delivered = pair.sender.event()
    assert isinstance(delivered, Delivered)
    assert (delivered.num_bytes, delivered.num_runs, delivered.lane) == (576, 9, "memory")
    assert pair.receiver.digest([7, 2, 3]) == pair.sender.digest([3, 4, 9])


def test_the_pages_may_be_written_in_chunks(pair: Pair) -> None:
    pair.sender.fill([0, 1, 2, 3], seed=2)
    grant = pair.receiver.grant("f1", [10, 11, 12, 13])
    pair.sender.open("f1", grant, 4)

    for first in (0, 2):
        for layer in range(3):
            pair.sender.courier.write("f1", 1, layer, first, [first, first + 1])
    pair.sender.finish("f1")

    assert isinstance(pair.receiver.event(), Arrived)
    assert pair.receiver.digest([10, 11, 12, 13]) == pair.sender.digest([0, 1, 2, 3])


def test_pages_that_exist_are_read_by_the_receiver(pair: Pair) -> None:
    pair.sender.fill([3, 4, 9], seed=1)
    grant = pair.receiver.grant("f1", [7, 2, 3])

    pair.sender.lend("f1", grant, [3, 4, 9])

    assert pair.receiver.event() == Arrived("f1", 1, num_bytes=576)
    delivered = pair.sender.event()
    assert isinstance(delivered, Delivered)
    assert (delivered.num_bytes, delivered.num_runs, delivered.lane) == (576, 9, "memory")
    assert pair.receiver.digest([7, 2, 3]) == pair.sender.digest([3, 4, 9])
    reader, lender = pair.receiver.transport.statistics(), pair.sender.transport.statistics()
    assert (reader.got_bytes, lender.put_bytes) == (576, 0)


def test_an_engine_receives_and_sends_at_once(pair: Pair) -> None:
    there = pair.receiver.grant("f1", [1])
    back = pair.sender.grant("f2", [2])

    pair.sender.send("f1", there, [5])
    pair.receiver.send("f2", back, [6])

    for engine in (pair.receiver, pair.sender):
        ends = {type(engine.event()), type(engine.event())}
        assert ends == {Arrived, Delivered}


def test_an_unused_grant_is_fenced_when_it_is_revoked(pair: Pair) -> None:
    pair.receiver.grant("f1", [1])

    pair.receiver.revoke("f1")

    assert pair.receiver.event() == Fenced("f1", 1, "revoked")


def test_revoking_in_the_middle_ends_both_sides(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.sender.open("f1", grant, 1)
    pair.sender.write("f1", 0, [5])

    pair.receiver.revoke("f1")
    fenced = pair.receiver.event()
    ended = pair.sender.event()
    before = pair.receiver.digest([1])
    pair.sender.fill([5], seed=9)
    pair.sender.write("f1", 0, [5])

    assert isinstance(fenced, Fenced)
    assert isinstance(ended, SendFailed)
    assert pair.receiver.digest([1]) == before


def test_aborting_ends_both_sides(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.sender.open("f1", grant, 1)

    pair.sender.courier.abort("f1", 1)

    assert pair.sender.event() == SendFailed("f1", 1, "aborted")
    pair.receiver.revoke("f1")
    assert isinstance(pair.receiver.event(), Fenced)


def test_a_grant_nobody_uses_runs_out(pair: Pair) -> None:
    pair.receiver.grant("f1", [1])

    pair.pass_time(30.0)

    assert pair.receiver.event() == Fenced("f1", 1, "the lease ran out")


def test_a_sender_that_stalls_loses_the_grant(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.sender.open("f1", grant, 1)
    pair.sender.write("f1", 0, [5])

    pair.pass_time(31.0)

    assert isinstance(pair.receiver.event(), Fenced)
    assert isinstance(pair.sender.event(), SendFailed)


def test_a_dead_sender_fences_the_grant(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    other = pair.receiver.grant("f2", [2])
    pair.sender.send("f2", other, [5])
    assert isinstance(pair.receiver.event(), Arrived)
    pair.sender.open("f1", grant, 1)
    pair.sender.write("f1", 0, [5])
    pair.sender.send("f3", pair.receiver.grant("f3", [3]), [5])
    assert isinstance(pair.receiver.event(), Arrived)

    assert isinstance(pair.sender.transport, MemoryTransport)
    pair.sender.transport.die()

    assert pair.receiver.event() == Fenced("f1", 1, "the sender was lost")


def test_a_dead_receiver_fails_the_transfer(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.sender.open("f1", grant, 1)

    assert isinstance(pair.receiver.transport, MemoryTransport)
    pair.receiver.transport.die()

    assert pair.sender.event() == SendFailed("f1", 1, "the receiver was lost")


def test_a_receiver_that_is_gone_already_fails_the_transfer(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.receiver.close()

    pair.sender.open("f1", grant, 1)

    assert pair.sender.event() == SendFailed("f1", 1, "the receiver was lost")


def test_a_grant_is_refused_at_once_where_it_cannot_be_used(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1, 2])

    for flow, attempt, sealed, begin, end, reason in [
        ("f1", 1, grant[:-1], 0, 8, "bad_message"),
        ("f1", 1, grant, 0, 4, "bad_range"),
        ("f1", 2, grant, 0, 8, "stale_attempt"),
        ("f2", 1, grant, 0, 8, "stale_attempt"),
    ]:
        with pytest.raises(GrantRefused) as refused:
            pair.sender.courier.open(flow, attempt, sealed, begin, end)
        assert refused.value.reason == reason
    assert pair.sender.courier.statistics().refused == 4
    assert pair.sender.courier.statistics().opened == 0


def test_opening_twice_is_refused_and_the_first_goes_on(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.sender.open("f1", grant, 1)

    with pytest.raises(GrantRefused) as refused:
        pair.sender.open("f1", grant, 1)
    for layer in range(3):
        pair.sender.write("f1", layer, [5])
    pair.sender.finish("f1")

    assert refused.value.reason == "out_of_order"
    assert isinstance(pair.sender.event(), Delivered)


def test_what_cannot_be_granted_raises_and_leaves_nothing(pair: Pair) -> None:
    for begin, end, pages in [(1, 4, [1]), (0, 8, [1]), (0, 4, [16]), (0, 4, [-1])]:
        with pytest.raises(ValueError, match="page"):
            pair.receiver.courier.grant("f1", 1, begin, end, pages)

    assert pair.receiver.courier.statistics().granted == 0
    pair.receiver.grant("f1", [1])
    with pytest.raises(ValueError, match="has a transfer here"):
        pair.receiver.grant("f1", [2])


def test_a_name_can_be_used_again_after_its_end(pair: Pair) -> None:
    for _ in range(3):
        pair.receiver.grant("f1", [1])
        pair.receiver.revoke("f1")
        assert isinstance(pair.receiver.event(), Fenced)


def test_unreadable_messages_are_counted_and_ignored(pair: Pair) -> None:
    noisy = pair.sender.transport

    noisy.call(lambda: noisy.send(noisy.connect(pair.receiver.transport.address), b"noise"))
    pair.sender.reach()
    pair.receiver.reach()

    assert pair.receiver.courier.statistics().bad_messages == 1


def test_closing_ends_everything_that_is_open(pair: Pair) -> None:
    grant = pair.receiver.grant("f1", [1])
    pair.receiver.grant("f2", [2])
    pair.sender.open("f1", grant, 1)
    pair.sender.write("f1", 0, [5])

    pair.receiver.close()
    pair.receiver.close()

    ends = [pair.receiver.event(), pair.receiver.event()]
    assert {(type(end), end.flow) for end in ends} == {(Fenced, "f1"), (Fenced, "f2")}
    assert isinstance(pair.sender.event(), SendFailed)
    with pytest.raises(TransportClosed):
        pair.receiver.grant("f3", [3])


def test_statistics_count_what_happened(pair: Pair) -> None:
    pair.sender.send("f1", pair.receiver.grant("f1", [1]), [5])
    pair.receiver.event()
    pair.sender.event()

    receiver, sender = pair.receiver.courier.statistics(), pair.sender.courier.statistics()

    assert (receiver.granted, receiver.arrived) == (1, 1)
    assert (sender.opened, sender.delivered, sender.delivered_bytes) == (1, 1, 192)
    assert (sender.transport.put_bytes, sender.transport.failed) == (192, 0)
