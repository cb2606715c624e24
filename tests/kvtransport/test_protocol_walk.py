"""All orders of events of one page run between two engines and a router, up to a bound."""

from __future__ import annotations

import pytest

from kvtransport.receiving import Receiver
from kvtransport.sending import Sender

from .walk import walk
from .walk_faults import FAULTY_RECEIVERS, FAULTY_SENDERS, WITHOUT_CHECKS, planted
from .walk_values import Bound, Make, Violation


def test_no_order_of_events_with_two_faults_breaks_the_protocol() -> None:
    walked = walk(Bound(faults=2, grants=2))

    assert walked.states > 50_000
    assert walked.ends > 200


def test_pages_that_are_written_layer_by_layer_are_never_read_half_written() -> None:
    walked = walk(Bound(faults=1, grants=2, layers=3))

    assert walked.states > 4_000


def test_without_faults_there_is_one_end_and_the_context_has_arrived() -> None:
    assert walk(Bound(faults=0)).ends == 1


@pytest.mark.parametrize("fault", FAULTY_RECEIVERS + FAULTY_SENDERS)
def test_a_protocol_that_lacks_a_rule_is_found_out(fault: type[Receiver] | type[Sender]) -> None:
    bounds = [Bound(faults=1, grants=2), Bound(faults=2, grants=1), Bound(faults=2, grants=2)]

    with pytest.raises(Violation, match="after: begin, "):
        _walk_all(bounds, planted(fault))


def test_what_was_corrupted_never_arrives_where_it_is_checked() -> None:
    assert walk(Bound(faults=1, grants=2, checked=True)).states > 2_000


@pytest.mark.parametrize("fault", WITHOUT_CHECKS)
def test_a_check_that_is_left_out_is_found_out(fault: type[Receiver] | type[Sender]) -> None:
    with pytest.raises(Violation, match="CORRUPT"):
        walk(Bound(faults=1, grants=2, checked=True), planted(fault))


def _walk_all(bounds: list[Bound], make: Make) -> None:
    for bound in bounds:
        walk(bound, make)
