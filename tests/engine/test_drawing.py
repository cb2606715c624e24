"""Drawing from a distribution: the inverse of its distribution function, in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.drawing import BLOCK, draw
from engine.survivors import Survivors

ALMOST_ONE = 1.0 - 2.0**-52


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4 * BLOCK + 3), st.floats(0.0, ALMOST_ONE))
def test_a_draw_is_the_inverse_of_the_distribution_function(
    seed: int, size: int, fraction: float
) -> None:
    """Half of the weights are nothing."""
    rng = np.random.default_rng(seed)
    weights = (rng.random(size) * rng.integers(0, 2, size)).astype(np.float32)
    assume(weights.any())

    place = draw(Survivors(None, weights), fraction)

    sums = weights.cumsum(dtype=np.float64)
    assert weights[place] > 0
    target, close = fraction * sums[-1], 1e-12 * size
    assert sums[place] - weights[place] - close <= target <= sums[place] + close


@pytest.mark.parametrize("fraction", [0.0, 0.5, ALMOST_ONE])
def test_what_weighs_nothing_is_never_drawn(fraction: float) -> None:
    weights = np.zeros(3 * BLOCK, np.float32)
    weights[BLOCK + 7] = 1e-30

    assert draw(Survivors(None, weights), fraction) == BLOCK + 7


def test_the_last_token_of_a_block_is_drawn_where_rounding_leads_behind_it() -> None:
    """Numbers whose sum in one order is less than in another."""
    weights = np.array([1.0] + [2.0**-54] * (BLOCK - 1) + [0.0] * BLOCK)

    assert draw(Survivors(None, weights), ALMOST_ONE) < BLOCK


def test_survivors_are_drawn_by_their_tokens() -> None:
    given = Survivors(np.array([3, 8]), np.array([1.0, 1.0]))

    assert [draw(given, fraction) for fraction in (0.0, 0.49, 0.5, 0.99)] == [3, 3, 8, 8]
