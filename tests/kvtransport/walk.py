"""Every way a walk through the states of a world can go, depth first, each state once.

``python -m tests.kvtransport.walk FAULTS GRANTS LAYERS`` goes as far as it is told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from typing import TypeAlias

from msgspec import Struct

from bus.transfers import PoolShape
from kvtransport.effects import Get, Put
from kvtransport.ledger import Ledger
from kvtransport.opening import Life
from kvtransport.outgoing import Home
from kvtransport.receiving import Receiver
from kvtransport.sending import Sender

from .walk_ledgers import LEASE_S
from .walk_values import ADDRESSES, LOSS, Bound, Make, R, S, Side, Violation
from .walk_world import World

Act: TypeAlias = Callable[[World], None]
Move: TypeAlias = tuple[str, Act]


class Walked(Struct):
    states: int = 0
    moves: int = 0
    ends: int = 0
    """States in which nothing can happen any more, but for further faults."""


def home(n: int, epoch: int, shape: PoolShape) -> Home:
    return Home(ADDRESSES[n], bytes([epoch]), shape)


def life(n: int, epoch: int) -> Life:
    return Life("rs"[n], epoch)


def production(n: int, epoch: int, shape: PoolShape) -> Ledger:
    """The ledger as a courier makes it."""
    receiver = Receiver(life(n, epoch), float(LEASE_S), shape)
    return Ledger(receiver, Sender(home(n, epoch, shape)))


def begin(bound: Bound, make: Make = production) -> World:
    shape = PoolShape(bound.layers, 1, 1, 8, "walk")
    sides = [Side(make(n, 1, shape)) for n in (R, S)]
    return World(sides, 0, bound, make, bound.faults, bound.grants)


def walk(bound: Bound, make: Make = production) -> Walked:
    """Look at every state that can be reached within the bound.

    Raises:
        Violation: with the moves that lead to it.
    """
    return _Walk().run(begin(bound, make))


class _Walk:
    def __init__(self) -> None:
        self._walked = Walked()
        self._seen: set[int] = set()
        self._path: list[str] = []
        """The moves to where we are."""
        self._on_path: set[int] = set()
        self._stack: list[tuple[int, Iterator[Move], World]] = []

    def run(self, world: World) -> Walked:
        try:
            self._enter("begin", world)
            while self._stack:
                self._step()
        except AssertionError as violation:
            moves = ", ".join(self._path)
            raise Violation(f"{violation}, after: {moves}") from violation
        return self._walked

    def _step(self) -> None:
        number, todo, world = self._stack[-1]
        move = next(todo, None)
        if move is None:
            self._stack.pop()
            self._on_path.discard(number)
            self._path.pop()
            return
        label, act = move
        self._path.append(label)
        self._walked.moves += 1
        new = world.fork()
        act(new)
        self._path.pop()
        self._enter(label, new)

    def _enter(self, label: str, world: World) -> None:
        number = hash(world.key())
        if number in self._on_path:
            raise Violation(f"it goes round in circles by {label}")
        if number in self._seen:
            return
        self._seen.add(number)
        self._on_path.add(number)
        self._path.append(label)
        self._walked.states += 1
        todo = list(moves(world))
        self._walked.ends += not todo
        self._stack.append((number, iter([*todo, *faults(world, bool(todo))]), world))
        if not todo:
            check_end(world)


def moves(world: World) -> Iterator[Move]:
    """What happens by itself, sooner or later. Time passes where there is nothing else to do."""
    found = [*_router(world), *_engine(world)]
    for n in (R, S):
        found += _network(world, n)
    if not found and any(_deadline(side) < inf for side in world.sides):
        found.append(("time passes", World.pass_time))
    return iter(found)


def _router(world: World) -> Iterator[Move]:
    free = world.granted is None and not world.cached
    if world.sides[R].ledger and free and world.grants:
        yield "prepare", World.prepare
    if world.sides[S].ledger:
        for index, held in enumerate(world.in_hand):
            yield f"order {held[0]}", partial(World.order, index=index)


def _engine(world: World) -> Iterator[Move]:
    for sending in world.sending:
        if sending.closed:
            continue
        if sending.layers < world.bound.layers:
            yield f"write {sending.layers}", partial(World.write, sending=sending)
        else:
            yield "finish", partial(World.finish, sending=sending)
        if sending.layers == 0:
            yield "lend", partial(World.lend, sending=sending)


def _network(world: World, n: int) -> list[Move]:
    side, who = world.sides[n], "RS"[n]
    if side.ledger is None:
        return [(f"restart {who}", partial(World.restart, n=n))]
    found: list[Move] = []
    if side.inbox:
        found.append((f"{who} hears {_named(side.inbox[0])}", partial(World.deliver, n=n)))
    if side.late:
        found.append((f"{who} hears late {_named(side.late[0])}", partial(World.deliver_late, n=n)))
    if side.outbox:
        found.append((f"{who} issues {_named(side.outbox[0].kind)}", partial(World.carry, n=n)))
    if side.under_way:
        found.append((f"{who} lands {_named(side.under_way[0].kind)}", partial(World.land, n=n)))
    if side.sums:
        found.append((f"{who} sums up", partial(World.sum_up, n=n)))
    if _deadline(side) <= world.now:
        found.append((f"{who} looks at the clock", partial(World.tick, n=n)))
    return found


def _deadline(side: Side) -> float:
    deadline = side.ledger.deadline() if side.ledger else None
    return inf if deadline is None else deadline


def faults(world: World, busy: bool) -> Iterator[Move]:
    """What may go wrong, each time at the cost of one fault."""
    if not world.faults:
        return
    for label, act in _faults(world, busy):
        yield label.upper(), partial(_fault, act=act)


def _fault(world: World, act: Act) -> None:
    world.faults -= 1
    act(world)


def _faults(world: World, busy: bool) -> Iterator[Move]:
    alive = [bool(side.ledger) for side in world.sides]
    for n in (R, S):
        side, who = world.sides[n], "RS"[n]
        if side.inbox and side.inbox[0] != LOSS:
            said = _named(side.inbox[0])
            yield f"drop {said}", partial(World.drop, n=n)
            yield f"delay {said}", partial(World.delay, n=n)
            yield f"repeat {said}", partial(World.duplicate, n=n)
        if world.bound.checked and side.under_way and side.under_way[0].kind in (Put, Get):
            yield f"corrupt for {who}", partial(World.corrupt, n=n)
        if alive[n]:
            yield f"crash {who}", partial(World.crash, n=n)
    if all(alive) and not any(LOSS in side.inbox for side in world.sides):
        yield "sever", World.sever
    if world.granted:
        yield "revoke", World.revoke
    if alive[S]:
        for sending in world.sending:
            if not sending.closed or sending.lent:
                yield "abort", partial(World.abort, sending=sending)
        for index, held in enumerate(world.passed_on):
            yield f"order {held[0]} again", partial(World.order, index=index, again=True)
    if busy and any(_deadline(side) < inf for side in world.sides):
        yield "time passes", World.pass_time


def check_end(world: World) -> None:
    """Nothing can happen any more: every page is free or cached, and nothing is remembered."""
    if world.granted:
        raise Violation(f"the receiver's page stays with {world.granted}")
    if world.sending:
        raise Violation(f"the sender's page stays with {world.sending}")
    for side in world.sides:
        assert side.ledger is not None
        if side.ledger.num_receiving or side.ledger.num_sending:
            raise Violation("a ledger remembers what has ended")
    if world.faults == world.bound.faults and not world.cached:
        raise Violation("nothing went wrong, and the context did not arrive")


def _named(what: object) -> str:
    kind = what if isinstance(what, type) else type(what)
    return "loss" if what == LOSS else kind.__name__


if __name__ == "__main__":
    faults_, grants_, layers = map(int, sys.argv[1:4])
    sys.stdout.write(f"{walk(Bound(faults_, grants_, layers))}\n")
