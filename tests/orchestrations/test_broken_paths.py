"""Mistakes about how a flow goes on and ends are found, with the shortest path to each."""

from __future__ import annotations

from bus.messages import (
    Cancelled,
    EngineLost,
    Event,
    Finished,
    Matched,
    Prepared,
    Query,
    Refused,
    Release,
    Sent,
    Submitted,
    TimedOut,
)
from orchestrations.data_parallel import data_parallel
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import (
    Done,
    Generating,
    Idle,
    Job,
    Preparing,
    Sending,
    State,
    Step,
    Unexpected,
    common,
)
from orchestrations.shapes import shape

from .finding import found


def test_a_forgotten_release_is_a_leak() -> None:
    def forgets_the_prefiller(state: State, event: Event) -> Step:
        match state, event:
            case Sending(job), Cancelled():
                return Done("cancelled"), [Release(job.decode)]
        return disaggregated(state, event)

    finding = found(forgets_the_prefiller, "leak")

    assert "p0 (RemoteSend)" in finding.message
    assert finding.path == (
        "Submitted -> Preparing; PrepRecv to d0",
        "Prepared(matched=0) from d0 -> Sending; RemoteSend to p0, StartGenerate to d0",
        "Cancelled -> Done; Release to d0",
    )


def test_pages_that_were_reserved_before_a_refusal_must_be_released_too() -> None:
    def trusts_a_refusal(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Refused(reason="busy"):
                return Done("refused"), []
        return disaggregated(state, event)

    finding = found(trusts_a_refusal, "leak")

    assert "d0 (PrepRecv)" in finding.message
    assert finding.path[-1] == "Refused(StartGenerate, busy) from d0 -> Done"


def test_a_release_that_is_missing_only_where_the_survivor_is_not_the_decoder_is_found() -> None:
    def releases_the_decoder_only(state: State, event: Event) -> Step:
        match state, event:
            case Sending(job), EngineLost(lost):
                alive = [] if lost == job.decode else [Release(job.decode)]
                return Done("engine_lost"), alive if lost in job.engines else job.release()
        return disaggregated(state, event)

    finding = found(releases_the_decoder_only, "leak")

    assert finding.path[-1] == "EngineLost(d0) -> Done"


def test_a_forgotten_cancel_is_unhandled() -> None:
    def forgets_to_listen(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Cancelled():
                raise Unexpected(state, event)
        return data_parallel(state, event)

    finding = found(forgets_to_listen, "unhandled")

    assert finding.path == (
        "Submitted -> Generating; StartGenerate to p0",
        "Cancelled -> Unexpected: Cancelled while Generating",
    )


def test_a_cancel_that_changes_nothing_is_ignored() -> None:
    def does_not_care(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Cancelled():
                return state, []
        return data_parallel(state, event)

    finding = found(does_not_care, "ignored")

    assert finding.path[-1] == "Cancelled -> Generating"


def test_a_timeout_that_changes_nothing_is_ignored() -> None:
    def is_patient(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), TimedOut():
                return state, []
        return data_parallel(state, event)

    finding = found(is_patient, "ignored")

    assert finding.path[-1] == "TimedOut -> Generating"


def test_an_exception_is_unhandled() -> None:
    def divides_by_zero(state: State, event: Event) -> Step:
        match event:
            case Finished():
                return Done("finished", str(1 // 0)), []
        return data_parallel(state, event)

    finding = found(divides_by_zero, "unhandled")

    assert finding.path[-1].startswith("Finished(stop) from p0 -> ZeroDivisionError")


def test_a_late_answer_that_raises_is_found() -> None:
    def forgets_that_answers_come_twice(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Prepared():
                raise Unexpected(state, event)
        return disaggregated(state, event)

    finding = found(forgets_that_answers_come_twice, "unhandled")

    assert finding.path[-1] == (
        "Prepared(matched=0), late or again -> Unexpected: Prepared while Generating"
    )


def test_an_answer_after_the_end_that_raises_is_found() -> None:
    def believes_in_silence(state: State, event: Event) -> Step:
        match state, event:
            case Done(), Sent():
                raise Unexpected(state, event)
        return disaggregated(state, event)

    finding = found(believes_in_silence, "unhandled")

    assert finding.path[-2:] == (
        "Refused(PrepRecv, busy) from d0 -> Done; Release to p0, Release to d0",
        "Sent, late or again -> Unexpected: Sent while Done",
    )


def test_running_out_of_engines_is_only_legal_for_a_request_that_has_not_begun() -> None:
    def restarts_whoever_is_left(state: State, event: Event) -> Step:
        match state, event:
            case Generating(job), EngineLost(lost, fleet) if lost == job.decode:
                return data_parallel(Idle(), Submitted(job.request, fleet))
        return data_parallel(state, event)

    finding = found(restarts_whoever_is_left, "unhandled")

    assert len(finding.path) == 3
    assert "NoEngine" in finding.path[-1]


def test_a_question_that_is_asked_again_after_every_answer_is_endless() -> None:
    def asks_for_ever(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                job = Job(request, fleet.least_loaded())
                return Preparing(job), [Query(job.decode, job.prompt)]
            case Preparing(job), Matched():
                return state, [Query(job.decode, job.prompt)]
        return common(state, event)

    finding = found(asks_for_ever, "endless", shape("1 both", 1))

    assert finding.path == (
        "Submitted -> Preparing; Query to x0",
        "Matched from x0 -> Preparing; Query to x0",
        "Matched from x0 -> Preparing; Query to x0",
        "and so on for ever, from step 3",
    )


def test_a_timer_that_is_set_again_every_time_is_endless() -> None:
    def asks_how_it_goes(state: State, event: Event) -> Step:
        match state, event:
            case Generating(job), TimedOut():
                return state, [Query(job.decode, job.prompt)]
        return data_parallel(state, event)

    finding = found(asks_how_it_goes, "endless")

    assert finding.path[-2] == "TimedOut -> Generating; Query to p0"


def test_waiting_for_an_engine_that_is_gone_is_stuck() -> None:
    def keeps_hoping(state: State, event: Event) -> Step:
        match state, event:
            case Sending(), EngineLost():
                return state, []
        return disaggregated(state, event)

    finding = found(keeps_hoping, "stuck")

    assert finding.path[-1] == "EngineLost(d0) -> Sending"
