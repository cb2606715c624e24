"""A world knows what may come next, and what an event leaves behind."""

from __future__ import annotations

from bus.messages import (
    Cancelled,
    Directed,
    EngineLost,
    Event,
    Prepared,
    PrepRecv,
    Refused,
    Release,
    Released,
    Started,
    StartGenerate,
    Superseded,
    Suspend,
    Suspended,
    TimedOut,
)
from bus.tokens import Tokens
from orchestrations.answers import SO_FAR
from orchestrations.machine import Done, Generating, Instruction, Job, Preparing, Renew, State
from orchestrations.world import Cause, World

from .flows import FLEET, PROMPT, REQUEST

JOB = Job(REQUEST, decode="d0", prefill="p0", split=39)
PREPARE = PrepRecv("d0", PROMPT, 39)
START = StartGenerate("d0", PROMPT, 39, REQUEST.sampling, REQUEST.reply)


def world_of(state: State, *commands: Instruction) -> World:
    """The world after these commands, whatever led to them."""
    return World(state, FLEET).after(Cause("news", TimedOut()), state, commands)


def answer(engine: str, verb: str, event: Event) -> Cause:
    return Cause("answer", event, engine, verb)


def kinds(world: World, kind: str) -> list[str]:
    return [type(c.event).__name__ for c in world.causes() if c.kind == kind]


def test_what_is_owed_may_be_answered_and_anybody_may_die() -> None:
    world = world_of(Generating(JOB), START)

    assert kinds(world, "answer") == ["Finished"] * 4 + ["Refused"] * 6
    assert kinds(world, "progress") == ["Started"]
    assert kinds(world, "news") == ["Cancelled", "TimedOut", "Superseded"] + ["EngineLost"] * 6
    assert kinds(world, "late") == []


def test_an_answer_is_owed_once_and_may_come_again() -> None:
    world = world_of(Preparing(JOB), PREPARE)

    after = world.after(answer("d0", "PrepRecv", Prepared(b"", 39)), Generating(JOB), [START])

    assert after.owed == (START,)
    assert kinds(after, "late") == ["Prepared"]


def test_a_sign_of_life_ends_nothing() -> None:
    world = world_of(Generating(JOB), START)

    after = world.after(Cause("progress", Started(0), "d0", "StartGenerate"), world.state, [])

    assert after == world


def test_a_late_answer_is_not_taken_for_one_that_is_owed() -> None:
    world = world_of(Preparing(JOB), PREPARE)
    refused = answer("d0", "PrepRecv", Refused("PrepRecv", "busy"))

    after = world.after(refused, Preparing(JOB), [PrepRecv("d1", PROMPT, 39)])

    assert kinds(after, "late") == []


def test_a_lost_engine_owes_and_holds_nothing_but_may_be_heard_late() -> None:
    world = world_of(Preparing(JOB), PREPARE)

    after = world.after(Cause("news", EngineLost("d0", FLEET.without("d0"))), Done("refused"), [])

    assert after.alive == ("p0", "d1")
    assert after.owed == ()
    assert after.ledger.holds == frozenset()
    assert kinds(after, "late") == ["Prepared"]


def test_a_released_engine_answers_nothing_that_it_was_told_before() -> None:
    world = world_of(Done("cancelled"), PREPARE, START, Release("p0"), Release("d0"))

    after = world.after(answer("d0", "Release", Released()), world.state, [])

    assert after.owed == (Release("p0"),)


def test_what_an_engine_is_told_after_a_release_it_still_answers() -> None:
    world = world_of(Generating(JOB), PREPARE, Release("d0"), START)

    after = world.after(answer("d0", "Release", Released()), world.state, [])

    assert after.owed == (START,)


def test_a_suspended_request_will_not_finish() -> None:
    world = world_of(Generating(JOB), START, Suspend("d0"))

    after = world.after(answer("d0", "Suspend", Suspended(40)), world.state, [])

    assert after.owed == ()
    assert [str(h) for h in after.ledger.holds] == ["d0 (StartGenerate)"]


def test_a_superseded_flow_is_somebody_elses() -> None:
    world = world_of(Generating(JOB), START)

    after = world.after(Cause("news", Superseded()), Done("superseded"), [])

    assert after.owed == ()
    assert after.ledger.holds == frozenset()


def test_a_command_that_is_given_twice_is_owed_once() -> None:
    world = world_of(Done("cancelled"), Release("d0"), Release("d0"))

    assert world.owed == (Release("d0"),)


def test_worlds_reached_by_other_ways_are_the_same_world() -> None:
    one = World(Done("finished"), FLEET, late=frozenset({("StartGenerate", False)}))

    other = one.after(Cause("news", Cancelled()), one.state, [])

    assert one == other
    assert hash(one) == hash(other)


def test_what_was_answered_so_far_is_nothing_or_something_once_an_engine_generates() -> None:
    world = world_of(Generating(JOB), START)

    lost = EngineLost("d0", FLEET.without("d0"), SO_FAR)
    after = world.after(Cause("news", lost), world.state, [])

    assert world_of(Preparing(JOB), PREPARE).answers() == (Tokens(),)
    assert world.answers() == (Tokens(), SO_FAR)
    assert after.answers() == (SO_FAR,)


def test_an_operator_directs_as_often_as_the_shape_says() -> None:
    world = World(Generating(JOB), FLEET, owed=(START,), directions=1)

    after = world.after(Cause("news", Directed("d1")), world.state, [])

    assert kinds(world, "news").count("Directed") == len(FLEET.engines)
    assert kinds(after, "news").count("Directed") == 0


def test_a_new_attempt_is_owed_nothing_but_engines_hold_what_they_held() -> None:
    world = world_of(Generating(JOB), START, Renew(), PREPARE)

    assert world.owed == (PREPARE,)
    assert {str(h) for h in world.ledger.holds} == {"d0 (StartGenerate)", "d0 (PrepRecv)"}
    assert not world.ledger.was_told(START)
    assert world.ledger.was_told(PREPARE)


def test_where_a_flow_is_done_it_makes_no_difference_how() -> None:
    one = world_of(Done("refused", "busy"), Release("d0")).at_rest()
    other = world_of(Done("refused", "too long"), Release("p0")).at_rest()
    leaking = world_of(Done("refused"), START)

    assert one == other
    assert leaking.at_rest() == leaking
