from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtransport.pacing import Limited, Unlimited


class Clock:
    """Moves when the test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_without_a_limit_nobody_waits() -> None:
    pace = Unlimited()

    pace.spend(1 << 40)

    assert pace.wait_s() == 0.0


def test_a_link_is_occupied_for_as_long_as_its_bytes_take() -> None:
    clock = Clock()
    pace = Limited(1000, clock)

    pace.spend(500)
    pace.spend(250)

    assert pace.wait_s() == pytest.approx(0.75)
    clock.now += 1.0
    assert pace.wait_s() == 0.0


def test_time_in_which_nothing_went_out_is_not_saved_up() -> None:
    clock = Clock()
    pace = Limited(1000, clock)
    clock.now += 60.0

    pace.spend(1000)

    assert pace.wait_s() == pytest.approx(0.995)


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 0.004)), min_size=1, max_size=50))
def test_no_more_goes_out_than_the_link_carries(steps: list[tuple[int, float]]) -> None:
    """Whoever waits as told, and wakes up a little late each time, is as fast as the link."""
    clock, total = Clock(), 0
    pace = Limited(10_000, clock)

    for num_bytes, late_s in steps:
        clock.now += pace.wait_s() + late_s
        pace.spend(num_bytes)
        total += num_bytes
    clock.now += pace.wait_s()

    assert clock.now - Clock.now >= total / 10_000 - 0.005 - 1e-9


def test_a_link_that_carries_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="more than none"):
        Limited(0, Clock())
