"""What every strategy does with the events that it leaves to `common`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bus.codec import decode, encode
from bus.messages import (
    AnyCommand,
    Cancelled,
    EngineLost,
    Event,
    Finished,
    Prepared,
    Refused,
    Release,
    Released,
    Sent,
    Started,
    Submitted,
    Superseded,
    TimedOut,
    Usage,
)
from orchestrations.machine import (
    Done,
    Generating,
    Idle,
    Job,
    Preparing,
    Sending,
    State,
    Unexpected,
    common,
)

from .flows import FLEET, REQUEST

JOB = Job(REQUEST, decode="d0", prefill="p0", split=39)
UNDER_WAY: tuple[State, ...] = (Preparing(JOB), Sending(JOB), Generating(JOB))
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

    assert isinstance(after, Done)
    assert after.outcome == outcome
    assert list(sent) == commands


@pytest.mark.parametrize("state", UNDER_WAY, ids=lambda s: type(s).__name__)
def test_the_loss_of_another_engine_changes_nothing(state: State) -> None:
    assert common(state, EngineLost("d1", FLEET)) == (state, [])


@pytest.mark.parametrize(
    "event", [Prepared(b"", 0), Sent(1, 0.1, "memory"), Started(0), Released()]
)
def test_an_answer_that_nobody_waits_for_changes_nothing(event: Event) -> None:
    assert common(Generating(JOB), event) == (Generating(JOB), [])


def test_an_answer_to_the_user_ends_a_flow_only_while_it_generates() -> None:
    finished = Finished("stop", Usage())

    assert common(Generating(JOB), finished) == (Done("finished"), [])
    assert common(Sending(JOB), finished) == (Sending(JOB), [])


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
