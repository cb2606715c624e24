"""The walk: all of it, each edge once, always in the same order."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

from msgspec.structs import replace

from bus.fleet import Fleet
from bus.messages import Finished, Submitted
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.explore import Moved, explore

from .finding import ONE, PAIR

PRINT_A_WALK = """
from orchestrations.disaggregated import disaggregated
from orchestrations.explore import explore
from orchestrations.shapes import shape
pair = shape("1 prefill, 1 decode", 16)
for edge in explore(disaggregated, pair):
    print(edge)
"""


def test_the_walk_begins_with_the_request_and_takes_the_answer_first() -> None:
    walk = explore(data_parallel, ONE)

    first, second, *_ = walk

    assert isinstance(first.cause.event, Submitted)
    assert isinstance(second.cause.event, Finished)


def test_every_edge_is_walked_once() -> None:
    edges = list(explore(disaggregated, PAIR))

    assert len({(e.before, e.cause) for e in edges}) == len(edges)


def test_the_order_does_not_depend_on_hash_seeds() -> None:
    def printed(seed: str) -> str:
        command = [sys.executable, "-c", PRINT_A_WALK]
        done = subprocess.run(
            command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        return _with_sets_sorted(done.stdout)

    assert printed("1") == printed("2")


def _with_sets_sorted(text: str) -> str:
    """A frozenset prints in the order of its hashes; the worlds are equal all the same."""
    return "\n".join("".join(sorted(line)) for line in text.splitlines())


def test_a_path_leads_from_the_start_to_the_world_step_by_step() -> None:
    walk = explore(disaggregated, PAIR)
    edges = [e for e in walk if isinstance(e, Moved)]
    world = edges[-1].before

    path = walk.path(world)

    assert path[0].before == walk.start
    assert path[-1].after == world
    assert all(a.after == b.before for a, b in pairwise(path))


def test_a_walk_says_whether_it_saw_everything() -> None:
    whole = explore(disaggregated, PAIR)
    part = explore(disaggregated, PAIR, max_worlds=10)

    for walk in (whole, part):
        list(walk)

    assert whole.exhaustive
    assert len(whole.reached) > 10
    assert not part.exhaustive
    assert len(part.reached) == 10


def test_a_fleet_that_is_declined_has_no_edges() -> None:
    assert list(explore(disaggregated, replace(PAIR, fleet=Fleet()))) == []
