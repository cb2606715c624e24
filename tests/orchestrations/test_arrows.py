"""What a strategy does, as arrows: each is something that it did when it was run."""

from __future__ import annotations

import pytest

from bus.messages import Event, Prepared, StartGenerate, Submitted
from orchestrations.arrows import Arrow, drawing
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.explore import Moved, explore
from orchestrations.machine import Idle, Preparing, State, Step, Strategy
from orchestrations.resilient import resilient

from .finding import ONE, PAIR


def test_the_shortest_strategy_has_these_arrows_and_no_others() -> None:
    found = drawing(data_parallel, (ONE,))

    assert found.states == ("Idle", "Generating", "Done")
    assert found.arrows == (
        Arrow("Idle", "Generating", ("Submitted",), ("StartGenerate",)),
        Arrow("Generating", "Done", ("Finished",), ()),
        Arrow("Generating", "Done", ("Cancelled", "Refused", "TimedOut"), ("Release",)),
        Arrow("Generating", "Done", ("EngineLost", "Superseded"), ()),
    )


@pytest.mark.parametrize("strategy", [disaggregated, resilient])
def test_every_arrow_was_walked_and_every_walk_has_its_arrow(strategy: Strategy) -> None:
    found = drawing(strategy, (PAIR,))

    walked = {
        (type(e.before.state).__name__, type(e.after.state).__name__, type(e.cause.event).__name__)
        for e in explore(strategy, PAIR)
        if isinstance(e, Moved) and (e.commands or e.before.state != e.after.state)
    }
    assert {(a.before, a.after, event) for a in found.arrows for event in a.events} == walked


@pytest.mark.parametrize("strategy", [data_parallel, disaggregated, resilient])
def test_states_begin_with_idle_and_end_with_done(strategy: Strategy) -> None:
    found = drawing(strategy, (PAIR,))

    assert (found.states[0], found.states[-1]) == ("Idle", "Done")
    assert {name for a in found.arrows for name in (a.before, a.after)} == set(found.states)


def test_an_event_that_is_answered_in_two_ways_has_an_arrow_for_each() -> None:
    def undecided(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Prepared(_, 0):
                after, _ = disaggregated(state, event)
                start = StartGenerate(
                    job.decode, job.prompt, 0, job.request.sampling, job.request.reply
                )
                return after, [start]
            case Idle(), Submitted():
                return disaggregated(state, event)
        return disaggregated(state, event)

    arrows = drawing(undecided, (PAIR,)).arrows

    sending = {a.commands for a in arrows if (a.before, a.after) == ("Preparing", "Sending")}
    assert ("StartGenerate",) in sending
