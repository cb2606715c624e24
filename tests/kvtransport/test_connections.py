"""What every `Transport` guarantees of connections: how they begin, and who hears of their end."""

from __future__ import annotations

import pytest

from kvtransport.transport import PEER_ID_BYTES, Unreachable

from .worlds import MIB, World, id_of, joined, scattered


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
