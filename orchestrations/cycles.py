"""Does every path end? Look for a way round that the engines' answers alone can keep going."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from bus.messages import TimedOut

from .explore import Moved
from .world import World

Ways: TypeAlias = Mapping[World, Sequence[Moved]]


def first_cycle(moves: Iterable[Moved]) -> tuple[Moved, ...]:
    """The shortest way round through the earliest world that lies on one; empty where none does.

    Counted are the steps that nobody can stop: an answer that was owed, and a timeout that the
    strategy acts on. ``moves`` come in the order in which they were walked.
    """
    ways = _on_the_way_to_a_cycle(_unstoppable(moves))
    for world in ways:
        if way := _way_round(world, ways):
            return way
    return ()


def _unstoppable(moves: Iterable[Moved]) -> dict[World, list[Moved]]:
    ways: dict[World, list[Moved]] = defaultdict(list)
    for move in moves:
        if move.cause.kind == "answer" or _acts_on_timeout(move):
            ways[move.before].append(move)
    return ways


def _acts_on_timeout(move: Moved) -> bool:
    moved = move.commands or move.after.state != move.before.state
    return isinstance(move.cause.event, TimedOut) and bool(moved)


def _on_the_way_to_a_cycle(ways: Ways) -> Ways:
    """Without the worlds whose every path ends, which are peeled off from the ends inwards."""
    left = {world: len(moves) for world, moves in ways.items()}
    into: dict[World, list[World]] = defaultdict(list)
    for world, moves in ways.items():
        for move in moves:
            into[move.after].append(world)
    ended = deque(world for world in into if world not in ways)
    while ended:
        for world in into[ended.popleft()]:
            left[world] -= 1
            if left[world] == 0:
                ended.append(world)
    return {world: ways[world] for world, count in left.items() if count}


def _way_round(start: World, ways: Ways) -> tuple[Moved, ...]:
    """The shortest path from a world back to itself."""
    paths: dict[World, tuple[Moved, ...]] = {start: ()}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        for move in ways.get(world, ()):
            if move.after == start:
                return (*paths[world], move)
            if move.after not in paths:
                paths[move.after] = (*paths[world], move)
                queue.append(move.after)
    return ()
