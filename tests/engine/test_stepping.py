"""What a step is said to take is what those who decode have waited for it."""

from __future__ import annotations

import pytest

from engine.fake import Cost

from .rig import Rig


def test_a_token_takes_the_step_and_what_was_done_since_the_last_one() -> None:
    rig = Rig(cost=Cost(step_s=0.010))
    rig.start("f", range(8), max_tokens=6)
    while rig.engine.has_work:
        rig.step()
        rig.clock_s += 0.002

    assert rig.engine.statistics().decode_step_s == pytest.approx(0.012)


def test_an_engine_at_rest_is_not_slow() -> None:
    rig = Rig(cost=Cost(step_s=0.010))
    for flow in "fgh":
        rig.start(flow, (*range(8), ord(flow)), max_tokens=6)
        rig.run()
        rig.clock_s += 60.0

    seen = rig.engine.statistics()
    assert seen.decode_step_s == pytest.approx(0.010)
    assert seen.prefill_s == pytest.approx(3 * 0.010)
