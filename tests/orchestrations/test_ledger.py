"""The page ledger: who holds pages, after which command and which answer."""

from __future__ import annotations

import pytest

from bus.messages import (
    AnyCommand,
    Committed,
    EngineEvent,
    Finished,
    PrepRecv,
    Query,
    Refused,
    Release,
    RemoteSend,
    Sent,
    StartGenerate,
    Suspended,
    Usage,
)
from orchestrations.ledger import Ledger

from .flows import PROMPT, REQUEST

PREPARE = PrepRecv("d0", PROMPT, 39)
SEND = RemoteSend("p0", PROMPT, b"grant", 0, 39)
START = StartGenerate("d0", PROMPT, 39, REQUEST.sampling, REQUEST.reply)


def ledger_of(*commands: AnyCommand) -> Ledger:
    ledger = Ledger()
    for command in commands:
        ledger = ledger.commanded(command)
    return ledger


def held(ledger: Ledger) -> list[str]:
    return [str(hold) for hold in sorted(ledger.holds)]


def test_pages_are_taken_as_soon_as_the_command_is_on_its_way() -> None:
    ledger = ledger_of(PREPARE, SEND, START)

    assert held(ledger) == ["d0 (PrepRecv)", "d0 (StartGenerate)", "p0 (RemoteSend)"]


def test_a_question_takes_nothing() -> None:
    assert held(ledger_of(Query("d0", PROMPT))) == []


def test_a_release_on_its_way_takes_one_engine_off_the_ledger() -> None:
    assert held(ledger_of(PREPARE, SEND, START, Release("d0"))) == ["p0 (RemoteSend)"]


def test_pages_taken_after_a_release_are_on_the_ledger() -> None:
    assert held(ledger_of(PREPARE, Release("d0"), START)) == ["d0 (StartGenerate)"]


@pytest.mark.parametrize(
    ("engine", "answer", "left"),
    [
        ("p0", Sent(1, 0.1, "memory"), ["d0 (PrepRecv)", "d0 (StartGenerate)"]),
        ("d0", Finished("stop", Usage()), ["p0 (RemoteSend)"]),
        ("d0", Committed(39), ["p0 (RemoteSend)"]),
        ("d0", Suspended(39), ["d0 (PrepRecv)", "d0 (StartGenerate)", "p0 (RemoteSend)"]),
        ("d0", Refused("StartGenerate", "busy"), ["d0 (PrepRecv)", "p0 (RemoteSend)"]),
        ("d0", Refused("StartGenerate", "transfer_failed"), ["p0 (RemoteSend)"]),
        ("d0", Refused("StartGenerate", "corrupt"), ["p0 (RemoteSend)"]),
        ("p0", Refused("RemoteSend", "busy"), ["d0 (PrepRecv)", "d0 (StartGenerate)"]),
        ("p0", Refused("RemoteSend", "transfer_failed"), ["d0 (PrepRecv)", "d0 (StartGenerate)"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | list) else "",
)
def test_an_answer_drops_what_it_says(engine: str, answer: EngineEvent, left: list[str]) -> None:
    ledger = ledger_of(PREPARE, SEND, START).answered(engine, answer)

    assert held(ledger) == left


def test_a_lost_engine_holds_nothing() -> None:
    assert held(ledger_of(PREPARE, SEND, START).lost("d0")) == ["p0 (RemoteSend)"]


def test_an_engine_that_refused_to_generate_has_sent_no_tokens() -> None:
    refused = ledger_of(START).answered("d0", Refused("StartGenerate", "busy"))
    finished = ledger_of(START).answered("d0", Finished("stop", Usage()))

    assert refused.generators == frozenset()
    assert finished.generators == {"d0"}


def test_a_command_is_remembered_whatever_came_of_it() -> None:
    ledger = ledger_of(START).answered("d0", Refused("StartGenerate", "busy"))

    assert ledger.was_told(START)
    assert not ledger.was_told(PREPARE)
