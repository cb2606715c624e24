"""What every `Transport` guarantees, tried on each of them."""

from __future__ import annotations

import hashlib
import random

import pytest

from kvtransport.transport import PEER_ID_BYTES

from .sites import LocalSite
from .worlds import MIB, World, id_of, joined, scattered


def test_bytes_land_exactly_where_they_were_put(world: World) -> None:
    here, there = joined(world)
    here.fill(100, bytes(range(256)))

    here.put(id_of(there), there.memory(), [(100, 5000, 256)])
    landed = here.flush(id_of(there))

    assert landed
    assert there.read(4999, 258) == b"\0" + bytes(range(256)) + b"\0"


def test_bytes_take_the_lane_that_is_told(lane_world: World) -> None:
    here, there = joined(lane_world)
    here.fill(0, b"by this lane")

    here.put(id_of(there), there.memory(), [(0, 0, 12)])
    here.flush(id_of(there))

    assert there.read(0, 12) == b"by this lane"
    assert here.lane(id_of(there), there.memory()) in lane_world.lanes


def test_bytes_are_fetched_from_where_they_are(world: World) -> None:
    here, there = joined(world)
    there.fill(5000, bytes(range(256)))

    here.get(id_of(there), there.memory(), [(100, 5000, 256)])
    landed = here.flush(id_of(there))

    assert landed
    assert here.read(99, 258) == b"\0" + bytes(range(256)) + b"\0"
    assert there.read(100, 256) == bytes(256)


def test_bytes_are_fetched_by_every_lane(lane_world: World) -> None:
    here, there = joined(lane_world, 4 * MIB)
    content = random.Random(5).randbytes(4 * MIB)
    there.fill(0, content)
    pieces = [*scattered(count=60, size=16384, seed=6), (3 * MIB, 3 * MIB, MIB)]

    here.get(id_of(there), there.memory(), pieces)
    here.flush(id_of(there))

    expected = bytearray(4 * MIB)
    for to, source, size in pieces:
        expected[to : to + size] = content[source : source + size]
    assert hashlib.sha256(here.read(0, 4 * MIB)).digest() == hashlib.sha256(expected).digest()


def test_a_pool_is_zeroed_whatever_its_memory_was_before(lane_world: World) -> None:
    for _ in range(4):
        used = bytearray(b"\xff") * (8 * MIB)  # malloc keeps what was freed, as it was left
        del used

    assert lane_world.here(4 * MIB).read(0, 4 * MIB) == bytes(4 * MIB)


def test_the_pool_lives_while_nobody_looks_at_it(world: World) -> None:
    here, there = joined(world)
    there.look_away()

    here.put(id_of(there), there.memory(), [(0, 0, 4096)])

    assert here.flush(id_of(there))


def test_a_view_of_the_pool_outlives_the_transport(world: World) -> None:
    here = world.here(MIB)
    assert isinstance(here, LocalSite)
    here.fill(0, b"kept")

    here.close()

    assert here.read(0, 4) == b"kept"


def test_an_alert_is_no_message_and_keeps_none_from_arriving(world: World) -> None:
    here, there = joined(world)

    here.alert(id_of(there), there.memory())
    here.send(id_of(there), b"complete")
    here.alert(b"?" * PEER_ID_BYTES, there.memory())

    assert there.message() == (id_of(here), b"complete")


def test_scattered_runs_land_each_in_its_place(world: World) -> None:
    here, there = joined(world, 4 * MIB)
    content = random.Random(1).randbytes(4 * MIB)
    here.fill(0, content)
    pieces = scattered(count=500, size=4000, seed=2)

    here.put(id_of(there), there.memory(), pieces)
    here.flush(id_of(there))

    expected = bytearray(4 * MIB)
    for source, target, size in pieces:
        expected[target : target + size] = content[source : source + size]
    assert hashlib.sha256(there.read(0, 4 * MIB)).digest() == hashlib.sha256(expected).digest()


def test_many_layers_put_one_after_another_all_land(world: World) -> None:
    here, there = joined(world, 8 * MIB)
    content = random.Random(3).randbytes(8 * MIB)
    here.fill(0, content)

    for layer in range(32):
        here.put(id_of(there), there.memory(), [(layer * MIB // 4, layer * MIB // 4, MIB // 4)])
    here.flush(id_of(there))

    assert hashlib.sha256(there.read(0, 8 * MIB)).digest() == hashlib.sha256(content).digest()


def test_a_message_after_a_flush_finds_the_bytes(world: World) -> None:
    here, there = joined(world)

    for round_ in range(1, 20):
        here.fill(0, bytes([round_]) * 4096)
        here.put(id_of(there), there.memory(), [(0, 8192, 4096)])
        here.flush(id_of(there))
        here.send(id_of(there), b"look")
        there.message()

        assert there.read(8192, 4096) == bytes([round_]) * 4096


def test_messages_arrive_in_order_with_their_sender(world: World) -> None:
    here, there = joined(world)
    sent = [bytes([number]) * (1 + 50 * number) for number in range(40)]

    for data in sent:
        here.send(id_of(there), data)

    assert [there.message() for _ in sent] == [(id_of(here), data) for data in sent]


def test_a_long_message_arrives_whole(lane_world: World) -> None:
    here, there = joined(lane_world)
    data = random.Random(7).randbytes(100_000)

    here.send(id_of(there), data)

    assert there.message() == (id_of(here), data)


def test_a_run_out_of_either_pool_is_refused(world: World) -> None:
    here, there = world.here(2 * MIB), world.there(MIB)
    here.connect(there.address())

    for piece in [(0, MIB - 1, 2), (2 * MIB - 1, 0, 2), (-1, 0, 1), (0, -1, 1)]:
        with pytest.raises(ValueError, match="reach to bytes"):
            here.put(id_of(there), there.memory(), [piece])
        with pytest.raises(ValueError, match="reach to bytes"):
            here.get(id_of(there), there.memory(), [piece])
