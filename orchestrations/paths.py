"""How many ways there are through a walk."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable

from .explore import Moved
from .world import World


def num_paths(start: World, moves: Iterable[Moved]) -> int | None:
    """The paths from the start to an end, steps that change nothing left out; None where there is a
    way round, so that there is no end of them."""
    ways: dict[World, list[World]] = defaultdict(list)
    into: Counter[World] = Counter()
    for move in moves:
        after = move.after.at_rest()
        if after != move.before:
            ways[move.before].append(after)
            into[after] += 1
    return _counted(start, ways, into)


def _counted(start: World, ways: dict[World, list[World]], into: Counter[World]) -> int | None:
    """Every world after all that lead to it: what is never reached that way lies on a way round."""
    paths, ready, total, num_left = Counter({start: 1}), deque([start]), 0, len(into)
    while ready:
        world = ready.popleft()
        total += paths[world] if world not in ways else 0
        for after in ways.get(world, ()):
            paths[after] += paths[world]
            into[after] -= 1
            if into[after] == 0:
                ready.append(after)
                num_left -= 1
    return None if num_left else total
