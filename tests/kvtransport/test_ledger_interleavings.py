from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from .play import Play


@settings(max_examples=250, deadline=None)
@given(st.binary(min_size=20, max_size=150))
def test_every_grant_and_transfer_ends_once_and_nobody_writes_after_the_fence(
    picks: bytes,
) -> None:
    play = Play()

    for pick in picks:
        play.step(pick)

    play.finish()


def test_long_plays_reach_every_ending() -> None:
    told: Counter[str] = Counter()

    for seed in range(60):
        play = Play()
        for pick in random.Random(seed).randbytes(300):
            play.step(pick)
        play.finish()
        told += play.told

    assert min(told[kind] for kind in ("Arrived", "Fenced", "Delivered", "SendFailed")) > 30
