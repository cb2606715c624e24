"""What every `Transport` guarantees, tried on each of them."""

from __future__ import annotations

import hashlib
import random

import pytest

from kvtransport.transport import PEER_ID_BYTES, Unreachable, peer_id

from .sites import LocalSite, Piece, Site, World

MIB = 2**20


def joined(world: World, num_bytes: int = MIB) -> tuple[Site, Site]:
    """A site here that knows one there, and the other way round."""
    here, there = world.here(num_bytes), world.there(num_bytes)
    here.connect(there.address())
    there.connect(here.address())
    return here, there


def id_of(site: Site) -> bytes:
    return peer_id(site.address())


def scattered(count: int, size: int, seed: int) -> list[Piece]:
    """``count`` pieces at random places of both pools, with gaps between them."""
    places = random.Random(seed)
    ours = places.sample(range(2 * count), count)
    theirs = places.sample(range(2 * count), count)
    return [(a * size, b * size, size) for a, b in zip(ours, theirs, strict=True)]


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


def test_a_message_reaches_a_peer_that_has_not_connected(world: World) -> None:
    here, there = world.here(MIB), world.there(MIB)

    here.connect(there.address())
    here.send(id_of(there), b"first word")

    assert there.message() == (id_of(here), b"first word")


def test_connecting_twice_is_one_connection(world: World) -> None:
    here, there = joined(world)

    again = here.connect(there.address())
    expected = id_of(there)
    there.close()

    assert again == expected == here.loss()


def test_a_run_out_of_either_pool_is_refused(world: World) -> None:
    here, there = world.here(2 * MIB), world.there(MIB)
    here.connect(there.address())

    for piece in [(0, MIB - 1, 2), (2 * MIB - 1, 0, 2), (-1, 0, 1), (0, -1, 1)]:
        with pytest.raises(ValueError, match="reach to bytes"):
            here.put(id_of(there), there.memory(), [piece])
        with pytest.raises(ValueError, match="reach to bytes"):
            here.get(id_of(there), there.memory(), [piece])


def test_an_address_that_cannot_be_read_is_unreachable(world: World) -> None:
    here = world.here(MIB)

    for damaged in (b"", bytes(PEER_ID_BYTES), bytes(PEER_ID_BYTES) + b"nonsense"):
        with pytest.raises(Unreachable):
            here.connect(damaged)


def test_an_address_with_one_bit_changed_is_unreachable(world: World) -> None:
    here, there = world.here(MIB), world.there(MIB)
    address = there.address()

    for position in range(0, len(address), 3):
        damaged = bytearray(address)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(Unreachable):
            here.connect(bytes(damaged))


def test_a_peer_that_closes_is_lost(world: World) -> None:
    here, there = joined(world)
    here.send(id_of(there), b"hello")
    there.message()
    gone = id_of(there)

    there.close()

    assert here.loss() == gone


def test_puts_and_messages_to_a_lost_peer_are_dropped(mortal_world: World) -> None:
    here, there = joined(mortal_world)
    gone, memory = id_of(there), there.memory()
    there.kill()
    here.loss()

    here.put(gone, memory, [(0, 0, 4096)])
    here.get(gone, memory, [(0, 0, 4096)])
    here.send(gone, b"anybody?")

    assert here.lane(gone, memory) in ("none", "memory")


def test_a_killed_peer_is_lost_while_nothing_happens(mortal_world: World) -> None:
    here, there = joined(mortal_world)
    here.send(id_of(there), b"hello")
    there.message()
    there.send(id_of(here), b"hello")
    here.message()
    gone = id_of(there)

    there.kill()

    assert here.loss() == gone


def test_a_peer_killed_between_puts_is_lost_and_nothing_hangs(mortal_world: World) -> None:
    here, there = joined(mortal_world, 16 * MIB)
    gone, memory = id_of(there), there.memory()
    pieces = scattered(count=400, size=16384, seed=4)
    here.put(gone, memory, pieces)
    here.flush(gone)

    here.put(gone, memory, pieces)
    there.kill()
    here.put(gone, memory, pieces)

    assert here.loss() == gone


def test_both_ends_of_a_connection_notice_a_death(mortal_world: World) -> None:
    here, there = mortal_world.here(MIB), mortal_world.there(MIB)
    gone = there.connect(here.address()) and id_of(there)
    there.send(id_of(here), b"hello")
    here.message()

    there.kill()

    assert here.loss() == gone


def test_connecting_to_the_dead_ends_soon(mortal_world: World) -> None:
    here, there = mortal_world.here(MIB), mortal_world.there(MIB)
    address = there.address()
    there.kill()

    try:
        gone = here.connect(address)
    except Unreachable:
        return

    assert here.loss() == gone


def test_a_peer_killed_while_it_is_being_connected_to_is_lost(mortal_world: World) -> None:
    here, there = mortal_world.here(MIB), mortal_world.there(MIB)
    gone = here.connect(there.address())
    here.send(gone, b"hello")

    there.kill()

    assert here.loss() == gone


def test_a_restarted_peer_is_reached_under_its_new_address(mortal_world: World) -> None:
    here, before = joined(mortal_world)
    gone = id_of(before)
    before.kill()
    here.loss()

    after = mortal_world.there(MIB)
    peer = here.connect(after.address())
    here.fill(0, b"again")
    here.put(peer, after.memory(), [(0, 0, 5)])
    landed = here.flush(peer)

    assert peer != gone
    assert landed
    assert after.read(0, 5) == b"again"


def test_survivors_go_on_while_another_peer_dies(mortal_world: World) -> None:
    here, doomed = joined(mortal_world)
    survivor = mortal_world.there(MIB)
    peer = here.connect(survivor.address())
    here.fill(0, b"still here")

    doomed.kill()
    here.put(peer, survivor.memory(), [(0, 0, 10)])
    landed = here.flush(peer)

    assert landed
    assert survivor.read(0, 10) == b"still here"
    here.loss()
