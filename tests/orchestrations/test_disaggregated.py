"""Prefill on one engine, decode on another: the commands of every step, in full."""

from __future__ import annotations

from bus.fleet import Engine, Fleet
from bus.messages import (
    EngineLost,
    Finished,
    Prepared,
    PrepRecv,
    Release,
    RemoteSend,
    Sent,
    Started,
    StartGenerate,
    Usage,
)
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Done, Generating, Job, Preparing, Renew, Sending

from .flows import FLEET, PROMPT, REQUEST, play

JOB = Job(REQUEST, decode="d0", prefill="p0", split=39)
START = StartGenerate("d0", PROMPT, 39, REQUEST.sampling, REQUEST.reply)
ALONE = StartGenerate("d0", PROMPT, 0, REQUEST.sampling, REQUEST.reply)
SENT = Sent(num_bytes=1, seconds=0.1, lane="memory")


def test_the_decoder_is_asked_first_for_all_but_the_last_token() -> None:
    state, commands = play(disaggregated)

    assert state == Preparing(JOB)
    assert commands == [PrepRecv("d0", PROMPT, end=39)]


def test_what_the_decoder_has_cached_is_not_sent() -> None:
    state, commands = play(disaggregated, Prepared(b"grant", matched=16))

    assert state == Sending(JOB)
    assert commands == [RemoteSend("p0", PROMPT, b"grant", 16, 39), START]


def test_the_prefiller_is_skipped_when_everything_is_cached() -> None:
    state, commands = play(disaggregated, Prepared(b"", matched=39))

    assert state == Generating(Job(REQUEST, "d0", split=39))
    assert commands == [START]


def test_the_decoder_which_was_told_to_start_is_told_nothing_when_the_prompt_has_arrived() -> None:
    state, commands = play(disaggregated, Prepared(b"grant", matched=0), SENT)

    assert state == Generating(Job(REQUEST, "d0", split=39))
    assert commands == []


def test_the_decoder_may_be_heard_before_the_prefiller() -> None:
    state, _ = play(disaggregated, Prepared(b"grant", matched=0), Started(39))
    after, commands = disaggregated(state, EngineLost("p0", FLEET.without("p0")))

    assert state == Generating(JOB)
    assert after == Generating(Job(REQUEST, "d0", split=39))
    assert commands == []


def test_an_answer_that_ends_before_the_prefiller_is_heard_lets_it_go() -> None:
    _, commands = play(
        disaggregated, Prepared(b"grant", matched=0), Started(39), Finished("stop", Usage())
    )

    assert commands == [Release("p0")]


def test_where_almost_all_is_cached_the_decoder_computes_the_rest() -> None:
    state, commands = play(disaggregated, Prepared(b"grant", matched=36))

    assert state == Generating(Job(REQUEST, "d0"))
    assert commands == [Release("p0"), Release("d0"), Renew(), ALONE]


def test_where_the_router_knows_that_the_prefiller_is_not_even_asked() -> None:
    fleet = Fleet((Engine("p0", "prefill"), Engine("d0", "decode", cached=36)))

    state, commands = play(disaggregated, fleet=fleet)

    assert state == Generating(Job(REQUEST, "d0"))
    assert commands == [ALONE]


def test_the_answer_ends_it() -> None:
    finished = Finished("length", Usage())

    state, commands = play(disaggregated, Prepared(b"grant", matched=0), SENT, finished)

    assert state == Done("finished")
    assert commands == []


def test_one_engine_alone_does_it_all() -> None:
    state, commands = play(disaggregated, fleet=Fleet((Engine("x0"),)))

    assert state == Generating(Job(REQUEST, "x0"))
    assert commands == [StartGenerate("x0", PROMPT, 0, REQUEST.sampling, REQUEST.reply)]
