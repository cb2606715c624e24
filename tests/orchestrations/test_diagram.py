"""A strategy's diagram for whoever draws flows on it."""

from __future__ import annotations

from itertools import combinations

import pytest

from orchestrations.diagram import Diagram, Line, diagram
from orchestrations.registry import load

NAMES = ("data_parallel", "disaggregated", "migrate_context")


@pytest.fixture(scope="module", params=NAMES)
def drawn(request: pytest.FixtureRequest) -> Diagram:
    return diagram(load(request.param))


def gaps(line: Line) -> set[int]:
    """The gaps between rows that it runs through."""
    low, high = sorted((line.begin, line.end))
    return set(range(low, high)) or {low}


def test_it_begins_idle_and_ends_done(drawn: Diagram) -> None:
    assert (drawn.states[0], drawn.states[-1]) == ("Idle", "Done")


def test_two_lines_of_one_column_are_never_in_the_same_gap(drawn: Diagram) -> None:
    for some in (drawn.lines, drawn.quiet):
        for one, other in combinations(some, 2):
            assert one.column != other.column or gaps(one).isdisjoint(gaps(other))


def test_every_state_is_reached_and_left_by_a_line_with_words(drawn: Diagram) -> None:
    inner = range(1, len(drawn.states) - 1)

    assert {line.end for line in drawn.lines} >= {*inner, len(drawn.states) - 1}
    assert {line.begin for line in drawn.lines} >= {0, *inner}
    assert all(label.events for line in drawn.lines for label in line.labels)


def test_flows_go_down_through_preparing_and_sending_to_generating() -> None:
    found = diagram(load("disaggregated"))

    assert found.states == ("Idle", "Preparing", "Sending", "Generating", "Done")


def test_a_way_out_for_those_who_give_up_is_quiet_where_nothing_else_goes_there() -> None:
    found = diagram(load("disaggregated"))
    rows = {name: row for row, name in enumerate(found.states)}

    assert [(line.begin, line.end) for line in found.quiet] == [(rows["Preparing"], rows["Done"])]
