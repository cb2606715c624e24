"""How flows of each strategy go, as `microserve top` counts it."""

from __future__ import annotations

from actors.live.scene import Change, Scene
from actors.live.tally import Quantiles, Tally, quantiles
from bus.moves import Ending, Moves, Sighting


def test_flows_are_counted_by_state_and_endings_by_strategy() -> None:
    scene = Scene()
    seen = tuple(Sighting(str(n), "a@1", "Sending", 0.0) for n in range(3))
    waits = Sighting("w", "a@1", "Waiting", 0.0)
    scene.moved(Moves("r0", 1, 0.0, seen=(*seen, waits)), 0.0)
    tally = Tally(scene)
    ended = tuple(Ending(f"e{n}", "b@2", "finished", float(n), 5, 0.5) for n in range(1, 11))
    failed = Ending("x", "b@2", "timed_out", 99.0)

    tally.heed(Change(10.0, ended=(*ended, failed)))

    a, b = tally.lines(12.0)
    assert (a.ref, a.in_flight, a.states) == ("a@1", 4, (("Sending", 3), ("Waiting", 1)))
    assert (b.ref, b.in_flight, b.ended_per_s, b.failed) == ("b@2", 0, 2.2, 1)
    assert (b.ttft, b.jct) == (Quantiles(0.5, 0.5), Quantiles(6.0, 10.0))
    assert tally.lines(16.0)[1].ended_per_s == 0.0


def test_of_nothing_there_are_no_quantiles() -> None:
    assert quantiles([]) == quantiles([None]) == Quantiles(None, None)


def test_times_are_those_that_half_and_nine_tenths_do_not_exceed_by_much() -> None:
    found = quantiles([float(n) for n in range(100)])

    assert found == Quantiles(50.0, 90.0)
