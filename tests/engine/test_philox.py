"""The counter-based random numbers against their published test vectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.philox import Words, philox, uniform

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (ONES, ONES, ONES, ONES),
            (ONES, ONES),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_it_is_philox(counter: Words, key: tuple[int, int], words: Words) -> None:
    """From ``kat_vectors`` of the authors' Random123."""
    assert philox(counter, key) == words


@given(st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_numbers_stay_below_one_and_take_any_seed(seed: int, position: int) -> None:
    number = uniform(seed, position)

    assert 0.0 <= number < 1.0
    assert number == uniform(seed % 2**64, position)


def test_numbers_spread_evenly_over_positions_seeds_and_answers() -> None:
    along = [uniform(7, position) for position in range(4000)]
    across = [uniform(seed, 7) for seed in range(4000)]
    beside = [uniform(7, 7, choice) for choice in range(4000)]

    for numbers in (along, across, beside):
        counts = [sum(int(number * 10) == tenth for number in numbers) for tenth in range(10)]
        chi_square = sum((count - 400) ** 2 / 400 for count in counts)
        assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001
    assert len({*along, *across, *beside}) == 12000 - 2
