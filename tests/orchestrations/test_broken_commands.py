"""Commands that no engine would carry out are found, with the shortest path to each."""

from __future__ import annotations

from bus.messages import (
    EngineLost,
    Event,
    Finished,
    Prepared,
    Refused,
    RemoteSend,
    Sent,
    Submitted,
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
    common,
    generate,
    prepare,
)

from .finding import found


def test_two_generators_start_twice() -> None:
    def asks_both(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                state, first = generate(Job(request, fleet.engines[0].name))
                _, second = generate(Job(request, fleet.engines[1].name))
                return state, [*first, *second]
        return common(state, event)

    finding = found(asks_both, "starts_twice")

    assert finding.path == ("Submitted -> Generating; StartGenerate to p0, StartGenerate to d0",)


def test_generating_again_after_the_answer_was_given_starts_twice() -> None:
    def is_not_content(state: State, event: Event) -> Step:
        match state, event:
            case Generating(job), Finished(reason="length"):
                return generate(job)
        return data_parallel(state, event)

    finding = found(is_not_content, "starts_twice")

    assert finding.path[-1] == ("Finished(length) from p0 -> Generating; StartGenerate to p0")


def test_a_refused_command_that_is_given_again_is_a_repeat() -> None:
    def tries_again(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Refused(reason="busy"):
                return prepare(job)
        return disaggregated(state, event)

    finding = found(tries_again, "repeats")

    assert finding.path == (
        "Submitted -> Preparing; PrepRecv to d0",
        "Refused(PrepRecv, busy) from d0 -> Preparing; PrepRecv to d0",
    )


def test_a_command_to_the_engine_that_was_just_lost_is_found() -> None:
    def does_not_look_who_died(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), EngineLost():
                return Done("engine_lost"), job.release()
        return disaggregated(state, event)

    finding = found(does_not_look_who_died, "dead_engine")

    assert finding.message == "Release goes to p0, which is dead"
    assert finding.path == (
        "Submitted -> Preparing; PrepRecv to d0",
        "EngineLost(p0) -> Done; Release to p0, Release to d0",
    )


def test_a_command_to_an_engine_that_died_long_ago_is_found() -> None:
    def remembers_the_prefiller(state: State, event: Event) -> Step:
        match state, event:
            case Generating(), Sent():
                return state, []
            case Generating(job), EngineLost(lost) if lost == job.prefill:
                return state, []
        return disaggregated(state, event)

    finding = found(remembers_the_prefiller, "dead_engine")

    assert finding.path[-2:] == (
        "EngineLost(p0) -> Generating",
        "Finished(stop) from d0 -> Done; Release to p0",
    )


def test_a_transfer_of_nothing_is_a_bad_command() -> None:
    def sends_whatever_is_left(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Prepared(grant, matched):
                send = RemoteSend(job.prefill, job.prompt, grant, matched, job.split)
                return Sending(job), [send]
        return disaggregated(state, event)

    finding = found(sends_whatever_is_left, "bad_command")

    assert finding.message == "RemoteSend of [15, 15): that is nothing to send"
    assert finding.path[-1] == "Prepared(matched=15) from d0 -> Sending; RemoteSend to p0"


def test_a_range_outside_of_the_prompt_is_a_bad_command() -> None:
    def counts_from_one(state: State, event: Event) -> Step:
        match state, event:
            case Idle(), Submitted(request, fleet):
                return generate(Job(request, fleet.least_loaded(), split=len(request.prompt) + 1))
        return common(state, event)

    finding = found(counts_from_one, "bad_command")

    assert finding.message == "StartGenerate of [17, None): the prompt has 16 tokens"


def test_a_grant_of_somebody_else_is_a_bad_command() -> None:
    def makes_up_a_grant(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Prepared(matched=0):
                send = RemoteSend(job.prefill, job.prompt, b"anything", 0, job.split)
                return Sending(job), [send]
        return disaggregated(state, event)

    finding = found(makes_up_a_grant, "bad_command")

    assert "grant" in finding.message


def test_an_engine_that_sends_to_itself_is_a_bad_command() -> None:
    def plays_alone(state: State, event: Event) -> Step:
        match state, event:
            case Preparing(job), Prepared(grant, matched=0):
                send = RemoteSend(job.decode, job.prompt, grant, 0, job.split)
                return Sending(job), [send]
        return disaggregated(state, event)

    finding = found(plays_alone, "bad_command")

    assert finding.message == "d0 is told to send to itself"
