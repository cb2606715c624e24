"""What every strategy does with the events that it leaves to `common`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bus.codec import decode, encode
from bus.messages import (
    AnyCommand,
    Cancelled,
    Directed,
    EngineLost,
    Event,
    Finished,
    Prepared,
    Refused,
    Release,
    Released,
    Sent,
    Started,
    StartGenerate,
    Submitted,
    Superseded,
    TimedOut,
    Usage,
)
from bus.tokens import Tokens
from orchestrations.machine import (
    Done,
    Generating,
    Idle,
    Instruction,
    Job,
    Preparing,
    Renew,
    Sending,
    State,
    Unexpected,
    alone,
    common,
    generate,
    nearly_all,
    prepare,
)

from .flows import FLEET, REQUEST

JOB = Job(REQUEST, decode="d0", prefill="p0", split=39)
UNDER_WAY: tuple[State, ...] = (Preparing(JOB), Sending(JOB), Generating(JOB))
ALONE = Job(REQUEST, decode="d0", split=39)
RELEASES: list[AnyCommand] = [Release("p0"), Release("d0")]


@pytest.mark.parametrize("state", UNDER_WAY, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    ("event", "outcome", "commands"),
    [
        (Cancelled(), "cancelled", RELEASES),
        (TimedOut(), "timed_out", RELEASES),
        (Refused("PrepRecv", "busy"), "refused", RELEASES),
        (EngineLost("p0", FLEET), "engine_lost", [Release("d0")]),
        (EngineLost("d0", FLEET), "engine_lost", [Release("p0")]),
        (Superseded(), "superseded", []),
    ],
    ids=("cancelled", "timed out", "refused", "prefiller lost", "decoder lost", "superseded"),
)
def test_a_flow_that_cannot_go_on_ends_and_its_engines_let_go(
    state: State, event: Event, outcome: str, commands: Sequence[AnyCommand]
) -> None:
    after, sent = common(state, event)

    if isinstance(state, Generating) and event == EngineLost("p0", FLEET):
        assert after == Generating(ALONE)  # what it sent has arrived
        return
    assert isinstance(after, Done)
    assert after.outcome == outcome
    assert list(sent) == commands


@pytest.mark.parametrize("state", UNDER_WAY, ids=lambda s: type(s).__name__)
def test_the_loss_of_another_engine_changes_nothing(state: State) -> None:
    assert common(state, EngineLost("d1", FLEET)) == (state, [])


@pytest.mark.parametrize("event", [Prepared(b"", 0), Started(0), Released(), Directed("d1")])
def test_an_answer_that_nobody_waits_for_changes_nothing(event: Event) -> None:
    assert common(Generating(JOB), event) == (Generating(JOB), [])


def test_an_answer_to_the_user_ends_a_flow_that_was_told_to_generate() -> None:
    finished = Finished("stop", Usage())

    assert common(Generating(ALONE), finished) == (Done("finished"), [])
    assert common(Sending(JOB), finished) == (Done("finished"), [Release("p0")])
    assert common(Preparing(JOB), finished) == (Preparing(JOB), [])


@pytest.mark.parametrize(
    "event",
    [Sent(1, 0.1, "memory"), Refused("RemoteSend", "transfer_failed"), EngineLost("p0", FLEET)],
)
def test_a_prefiller_is_of_no_account_once_the_decoder_has_begun(event: Event) -> None:
    assert common(Generating(JOB), event) == (Generating(ALONE), [])


def test_where_nobody_is_to_send_anything_the_decoder_answers_at_once() -> None:
    answering = generate(Job(REQUEST, "d0"))

    assert prepare(Job(REQUEST, "d0", "p0", split=0)) == answering
    assert prepare(Job(REQUEST, "d0", "d0", split=39)) == answering
    assert prepare(Job(REQUEST, "d0", "", split=39)) == answering


def test_one_engine_that_does_it_all_does_it_in_a_new_attempt() -> None:
    state, commands = alone(JOB, "p0")

    assert state == Generating(Job(REQUEST, "p0"))
    assert commands == [*RELEASES, Renew(), *generate(Job(REQUEST, "p0"))[1]]
    assert all(isinstance(c, Instruction) for c in commands)


def test_an_answer_that_goes_on_is_numbered_from_where_it_goes_on() -> None:
    request = REQUEST.going_on(Tokens([7, 8])).going_on(Tokens([7, 8, 9]))

    [start] = generate(Job(request, "d0"))[1]

    assert isinstance(start, StartGenerate)
    assert (start.offset, start.prompt) == (3, REQUEST.prompt + Tokens([7, 8, 9]))


@pytest.mark.parametrize(
    ("cached", "nearly"), [(0, False), (34, False), (35, True), (39, True), (40, False)]
)
def test_nearly_all_is_all_but_an_eighth(cached: int, nearly: bool) -> None:
    assert nearly_all(40, cached) == nearly


def test_nothing_comes_after_the_end() -> None:
    done = Done("cancelled")

    assert common(done, Cancelled()) == (done, [])
    assert common(done, Finished("stop", Usage())) == (done, [])


@pytest.mark.parametrize("state", [Idle(), *UNDER_WAY], ids=lambda s: type(s).__name__)
def test_what_cannot_be_is_unexpected(state: State) -> None:
    event = Cancelled() if isinstance(state, Idle) else Submitted(REQUEST, FLEET)

    with pytest.raises(Unexpected, match="while") as caught:
        common(state, event)

    assert (caught.value.state, caught.value.event) == (state, event)


@pytest.mark.parametrize("state", [Idle(), *UNDER_WAY, Done("refused", "PrepRecv refused")])
def test_a_state_survives_a_round_trip_through_bytes(state: State) -> None:
    assert decode(encode(state), State) == state
