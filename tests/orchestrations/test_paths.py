"""Ways through a walk are counted as by walking each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bus.fleet import Engine, Fleet
from bus.messages import Mailbox, Request, Sampling, TimedOut
from bus.tokens import Tokens
from orchestrations.disaggregated import disaggregated
from orchestrations.explore import Moved, explore
from orchestrations.machine import Generating, Job
from orchestrations.paths import num_paths
from orchestrations.world import Cause, World

from .finding import PAIR

REQUEST = Request(Tokens((1,)), Sampling(), Mailbox("answers"))
Steps = list[tuple[int, int]]
forward = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 3)).map(lambda s: (s[0], s[0] + s[1])),
    unique=True,
    max_size=14,
)
"""Steps between numbered worlds that never lead back."""


def world(number: int) -> World:
    return World(Generating(Job(REQUEST, f"e{number}")), Fleet((Engine(f"e{number}"),)))


def moves(steps: Steps) -> list[Moved]:
    cause = Cause("news", TimedOut())
    return [Moved(world(before), cause, (), world(after)) for before, after in steps]


def walked(here: int, steps: Steps) -> int:
    """The ways from here to where nothing leads on, one by one."""
    onward = [after for before, after in steps if before == here]
    return sum(walked(after, steps) for after in onward) if onward else 1


def reachable(steps: Steps) -> Steps:
    """Those that begin where one can come from world 0, as the steps of a walk do."""
    there = {0}
    for before, after in sorted(steps):
        if before in there:
            there.add(after)
    return [step for step in steps if step[0] in there]


@given(forward)
def test_as_many_paths_are_counted_as_can_be_walked(steps: Steps) -> None:
    steps = reachable(steps)

    assert num_paths(world(0), moves(steps)) == walked(0, steps)


def test_two_ways_that_meet_and_part_again_are_four_paths() -> None:
    diamonds = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 6), (5, 6)]

    assert num_paths(world(0), moves(diamonds)) == 4


def test_a_step_that_changes_nothing_is_no_way_round() -> None:
    assert num_paths(world(0), moves([(0, 0), (0, 1), (1, 1)])) == 1


def test_there_is_no_end_of_paths_where_one_leads_back() -> None:
    assert num_paths(world(0), moves([(0, 1), (1, 2), (2, 1), (2, 3)])) is None


def test_a_real_walk_has_an_end() -> None:
    walk = explore(disaggregated, PAIR)
    found = [edge for edge in walk if isinstance(edge, Moved)]

    assert (num_paths(walk.start, found) or 0) > len(found)
