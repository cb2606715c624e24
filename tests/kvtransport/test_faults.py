"""Thousands of faults in a fleet of real couriers on the in-memory twin: no leak, no wrong byte."""

from __future__ import annotations

from collections import Counter

import pytest

from .fleet import Fleet

NUM_PLAYS, NUM_FAULTS = 8, 275


@pytest.mark.parametrize("seed", range(NUM_PLAYS))
def test_whatever_breaks_every_page_comes_back_and_every_byte_is_right(seed: int) -> None:
    fleet = Fleet(seed)

    fleet.play(NUM_FAULTS)

    assert sum(fleet.faults.values()) >= NUM_FAULTS
    assert len(fleet.faults) == 11, "a kind of fault never happened"
    assert min(fleet.told[kind] for kind in ("Arrived", "Fenced", "Delivered", "SendFailed")) > 50


def test_the_plays_are_two_thousand_faults() -> None:
    assert NUM_PLAYS * NUM_FAULTS >= 2000


def test_a_seed_replays_a_run() -> None:
    told: list[Counter[str]] = []

    for _ in range(2):
        fleet = Fleet(99)
        fleet.play(20)
        told.append(fleet.told)

    assert told[0] == told[1]
