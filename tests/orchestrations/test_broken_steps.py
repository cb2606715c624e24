"""Functions that are no strategies are found: impure, malformed, without an end."""

from __future__ import annotations

from itertools import count
from typing import Any

from msgspec import Struct

from bus.fleet import Fleet, NoEngine
from bus.messages import (
    Cancelled,
    EngineLost,
    Event,
    Finished,
    Refused,
    StartGenerate,
    Submitted,
    TimedOut,
)
from orchestrations.check import check
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import (
    Done,
    Generating,
    Idle,
    Job,
    State,
    Step,
    Unexpected,
    common,
    generate,
)

from .finding import ONE, PAIR, TWO_DECODERS, found


def test_a_counter_between_calls_is_impure() -> None:
    numbers = count()

    def takes_turns(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                turn = next(numbers) % len(fleet.engines)
                return generate(Job(request, fleet.engines[turn].name))
        return common(state, event)

    finding = found(takes_turns, "impure")

    assert len(finding.path) == 1
    assert finding.path[0].startswith("Submitted -> ")


class Elsewhere(Struct, frozen=True, tag=True):
    """A state that is not in the union that the strategy says its states are of."""

    job: Job


def test_a_state_that_nobody_could_read_again_is_not_bytes() -> None:
    def has_its_own_state(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                job = Job(request, fleet.least_loaded())
                return Elsewhere(job), generate(job)[1]  # type: ignore[return-value]
        return common(state, event)

    finding = found(has_its_own_state, "not_bytes")

    assert finding.path == ("Submitted -> Elsewhere; StartGenerate to p0",)


def test_no_step_at_all_is_malformed() -> None:
    def forgets_to_return(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Finished():
                return None  # type: ignore[return-value]
        return data_parallel(state, event)

    finding = found(forgets_to_return, "malformed")

    assert "not None" in finding.message


class Counting(Struct, frozen=True, tag=True):
    job: Job
    num_tries: int


def counts_without_a_limit(state: State | Counting, event: Event) -> tuple[Any, list[Any]]:
    match state, event:
        case Idle(), Submitted(request, fleet):
            job = Job(request, fleet.least_loaded())
            return Counting(job, 0), [StartGenerate(job.decode, job.prompt, 0, *_how(job))]
        case Counting(job, num_tries), TimedOut():
            return Counting(job, num_tries + 1), []
        case Counting(job), Finished():
            return Done("finished"), []
        case Counting(job), Cancelled() | Refused():
            return Done("cancelled"), job.release()
        case Counting(job), EngineLost(lost) if lost == job.decode:
            return Done("engine_lost"), []
        case _, Submitted():
            raise Unexpected(state, event)
    return state, []


def _how(job: Job) -> tuple[Any, Any]:
    return job.request.sampling, job.request.reply


def test_states_without_an_end_are_too_many_worlds() -> None:
    strategy: Any = counts_without_a_limit

    finding = found(strategy, "too_many_worlds", ONE, PAIR, max_worlds=100)

    assert "100 worlds" in finding.message
    assert set(finding.path[1:]) <= {"TimedOut -> Counting", "Directed(x0) -> Counting"}


def test_a_walk_that_found_no_end_is_not_repeated_on_other_fleets() -> None:
    strategy: Any = counts_without_a_limit

    verdict = check(strategy, (ONE, PAIR, TWO_DECODERS), max_worlds=100)

    assert not verdict.exhaustive
    assert verdict.worlds == 100


def test_a_strategy_that_declines_everything_serves_nobody() -> None:
    def is_never_satisfied(state: State, event: Event) -> Step:
        raise NoEngine("decode")

    finding = found(is_never_satisfied, "serves_nobody")

    assert finding.path == ()


def test_a_fleet_that_cannot_serve_is_declined_and_that_is_no_finding() -> None:
    def wants_two_decoders(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(_, Fleet(engines)) if len(engines) < 3:
                raise NoEngine("decode")
        return disaggregated(state, event)

    verdict = check(wants_two_decoders, (PAIR, TWO_DECODERS))

    assert verdict.passed


def test_one_mistake_is_told_once() -> None:
    def never_releases(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Cancelled():
                return Done("cancelled"), []
        return data_parallel(state, event)

    verdict = check(never_releases)

    assert [f.problem for f in verdict.findings] == ["leak"]


class Changing(Struct, tag=True):
    """A state that is not frozen."""

    job: Job


def test_a_state_that_can_change_is_malformed() -> None:
    def forgets_to_freeze(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                job = Job(request, fleet.least_loaded())
                return Changing(job), generate(job)[1]  # type: ignore[return-value]
        return common(state, event)

    finding = found(forgets_to_freeze, "malformed")

    assert "Changing is not immutable" in finding.message


class Loose(Struct, frozen=True, tag=True):
    """A state with a field that says nothing of what it holds: a tuple comes back as a list."""

    job: Job
    tries: Any = ()


def test_a_state_that_comes_back_as_another_value_is_not_bytes() -> None:
    def is_loose(state: State | Loose, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                job = Job(request, fleet.least_loaded())
                return Loose(job), generate(job)[1]  # type: ignore[return-value]
        return common(state, event)  # type: ignore[arg-type]

    finding = found(is_loose, "not_bytes")

    assert finding.message == "Loose comes back from bytes as another value"
