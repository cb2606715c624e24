"""What we ship makes no mistake on any path, and sound strategies of others are let through."""

from __future__ import annotations

import pytest
from msgspec import Struct

from bench.strategies.in_turn import in_turn
from bus.messages import (
    Answer,
    Cancelled,
    EngineLost,
    Event,
    Matched,
    Query,
    Refused,
    Release,
    Released,
    Submitted,
    Suspend,
    Suspended,
    TimedOut,
)
from orchestrations.answers import verb
from orchestrations.check import check
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.explore import Moved, explore
from orchestrations.machine import (
    Done,
    Generating,
    Idle,
    Job,
    Preparing,
    Sending,
    State,
    Step,
    common,
    generate,
)
from orchestrations.registry import names, strategies
from orchestrations.shapes import SHAPES, Shape

from .finding import ONE, PAIR, TWO_DECODERS


@pytest.mark.parametrize("name", names())
def test_a_shipped_strategy_passes_on_every_shape(name: str) -> None:
    verdict = check(strategies()[name])

    assert verdict.findings == ()
    assert verdict.passed
    assert verdict.edges > len(SHAPES)
    assert {"Idle", "Generating", "Done"} <= set(verdict.states)


@pytest.mark.parametrize("name", names())
def test_a_shipped_strategy_meets_contexts_that_arrive_corrupt(name: str) -> None:
    moves = [edge for edge in explore(strategies()[name], PAIR) if isinstance(edge, Moved)]

    waited_for = {verb(c) for move in moves for c in move.commands} & {
        "RemoteSend",
        "StartGenerate",
    }
    causes = [move.cause for move in moves]
    met = {c.verb for c in causes if isinstance(c.event, Refused) and c.event.reason == "corrupt"}
    assert met == waited_for != set()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_the_loss_of_an_engine_that_is_not_part_of_the_job_changes_nothing(shape: Shape) -> None:
    losses = [
        move
        for move in explore(disaggregated, shape)
        if isinstance(move, Moved)
        and isinstance(move.cause.event, EngineLost)
        and isinstance(move.before.state, Preparing | Sending | Generating)
        and move.cause.event.engine not in move.before.state.job.engines
    ]

    assert all(m.after.state == m.before.state and not m.commands for m in losses)


class Ending(Struct, frozen=True, tag=True):
    """The user has cancelled, and the engine has not yet let go."""


def polite(state: State | Ending, event: Event) -> tuple[State | Ending, list[Release]]:
    """Waits until the engine has let go."""
    match state, event:
        case Generating(job), Cancelled():
            return Ending(), job.release()  # type: ignore[return-value]
        case Ending(), Released() | Refused("Release") | TimedOut() | EngineLost():
            return Done("cancelled"), []
        case Ending(), Answer() | Cancelled():
            return state, []
        case Ending(), _:
            return Done("superseded"), []
    return data_parallel(state, event)  # type: ignore[arg-type, return-value]


class Asking(Struct, frozen=True, tag=True):
    job: Job


def curious(state: State | Asking, event: Event) -> Step:
    """Asks the engine before it gives it anything."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            job = Job(request, fleet.least_loaded())
            return Asking(job), [Query(job.decode, job.prompt)]  # type: ignore[return-value]
        case Asking(job), Matched():
            return generate(job)
        case Asking(job), Cancelled() | TimedOut() | Refused():
            return Done("cancelled"), []
        case Asking(job), EngineLost(lost) if lost == job.decode:
            return Done("engine_lost"), []
        case Asking(), Answer() | EngineLost():
            return state, []  # type: ignore[return-value]
        case Asking(), _:
            return Done("superseded"), []
    return common(state, event)  # type: ignore[arg-type]


def stops_at_the_first_sign(state: State, event: Event) -> Step:
    """Suspends instead of giving up when the time runs out, then lets go of the pages."""
    match state, event:
        case Generating(job), TimedOut() if not job.split:
            return Generating(Job(job.request, job.decode, split=1)), [Suspend(job.decode)]
        case Generating(job), Suspended():
            return Done("timed_out"), job.release()
    return data_parallel(state, event)


def restarting(state: State, event: Event) -> Step:
    """Begins again on another engine, if there is one, when the one that answers is lost."""
    match state, event:
        case Generating(job), EngineLost(lost, fleet) if lost == job.decode and fleet.engines:
            return data_parallel(Idle(), Submitted(job.request, fleet))
    return data_parallel(state, event)


@pytest.mark.parametrize(
    "strategy", [in_turn, restarting, polite, curious, stops_at_the_first_sign]
)
def test_a_sound_strategy_is_not_accused(strategy: object) -> None:
    verdict = check(strategy, (ONE, PAIR, TWO_DECODERS))  # type: ignore[arg-type]

    assert verdict.findings == ()
    assert verdict.passed
