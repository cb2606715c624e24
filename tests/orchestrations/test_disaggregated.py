"""Prefill on one engine, decode on another: the commands of every step, in full."""

from __future__ import annotations

from bus.fleet import Engine, Fleet
from bus.messages import (
    Finished,
    Prepared,
    PrepRecv,
    RemoteSend,
    Sent,
    StartGenerate,
    Usage,
)
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Done, Generating, Job, Preparing, Sending

from .flows import PROMPT, REQUEST, play

JOB = Job(REQUEST, decode="d0", prefill="p0", split=39)
START = StartGenerate("d0", PROMPT, 39, REQUEST.sampling, REQUEST.reply)
SENT = Sent(num_bytes=1, seconds=0.1, lane="memory")


def test_the_decoder_is_asked_first_for_all_but_the_last_token() -> None:
    state, commands = play(disaggregated)

    assert state == Preparing(JOB)
    assert commands == [PrepRecv("d0", PROMPT, end=39)]


def test_what_the_decoder_has_cached_is_not_sent() -> None:
    state, commands = play(disaggregated, Prepared(b"grant", matched=16))

    assert state == Sending(JOB)
    assert commands == [RemoteSend("p0", PROMPT, b"grant", 16, 39)]


def test_the_prefiller_is_skipped_when_everything_is_cached() -> None:
    state, commands = play(disaggregated, Prepared(b"", matched=39))

    assert state == Generating(Job(REQUEST, "d0", split=39))
    assert commands == [START]


def test_the_decoder_generates_when_the_prompt_has_arrived() -> None:
    state, commands = play(disaggregated, Prepared(b"grant", matched=0), SENT)

    assert state == Generating(Job(REQUEST, "d0", split=39))
    assert commands == [START]


def test_the_answer_ends_it() -> None:
    finished = Finished("length", Usage())

    state, commands = play(disaggregated, Prepared(b"grant", matched=0), SENT, finished)

    assert state == Done("finished")
    assert commands == []


def test_one_engine_alone_does_it_all() -> None:
    state, commands = play(disaggregated, fleet=Fleet((Engine("x0"),)))

    assert state == Generating(Job(REQUEST, "x0"))
    assert commands == [StartGenerate("x0", PROMPT, 0, REQUEST.sampling, REQUEST.reply)]
