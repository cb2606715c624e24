"""Every command is answered in every way an engine may, success first."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.codec import decode, encode
from bus.messages import (
    AnyCommand,
    Commit,
    Committed,
    Finished,
    Matched,
    Prepared,
    PrepRecv,
    Query,
    Refused,
    Release,
    Released,
    RemoteSend,
    Sent,
    Started,
    StartGenerate,
    Suspend,
    Suspended,
)
from bus.tokens import Tokens
from orchestrations.answers import (
    PAGE_SIZE,
    REFUSALS,
    endings,
    grant_of,
    resolve,
    signs_of_life,
    verb,
)

from .flows import PROMPT, REQUEST

START = StartGenerate("d0", PROMPT, 39, REQUEST.sampling, REQUEST.reply)
EVERY_COMMAND: dict[AnyCommand, type] = {
    PrepRecv("d0", PROMPT): Prepared,
    RemoteSend("p0", PROMPT, b"grant"): Sent,
    START: Finished,
    Commit("d0"): Committed,
    Suspend("d0"): Suspended,
    Release("d0"): Released,
    Query("d0", PROMPT): Matched,
}


def test_no_verb_is_forgotten() -> None:
    known = {kind.__name__ for kind in get_args(AnyCommand)}

    assert {verb(c) for c in EVERY_COMMAND} == known
    assert set(REFUSALS) == known


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=verb)
def test_a_command_ends_in_its_own_event_or_is_refused(command: AnyCommand) -> None:
    events = endings(command)

    assert isinstance(events[0], EVERY_COMMAND[command])
    assert isinstance(events[-1], Refused)
    assert {type(e) for e in events} == {EVERY_COMMAND[command], Refused}
    assert all(e.verb == verb(command) for e in events if isinstance(e, Refused))


def test_an_answer_of_each_reason_ends_a_generation() -> None:
    reasons = [e.reason for e in endings(START) if isinstance(e, Finished)]

    assert reasons == ["stop", "length", "cancelled", "error"]


def test_only_a_generation_gives_signs_of_life() -> None:
    signs = [e for c in EVERY_COMMAND for e in signs_of_life(c)]

    assert signs == [Started(matched=0)]


def test_nothing_a_page_half_all_full_pages_or_all_may_be_cached() -> None:
    prompt = Tokens(range(100))

    prepared = [e for e in endings(PrepRecv("d0", prompt, -1)) if isinstance(e, Prepared)]

    assert [e.matched for e in prepared] == [0, PAGE_SIZE, 48, 96, 99]
    assert [e.grant for e in prepared] == [grant_of("d0")] * 4 + [b""]


@given(length=st.integers(0, 50), index=st.none() | st.integers(-50, 50))
def test_an_index_lies_where_python_has_it(length: int, index: int | None) -> None:
    at = resolve(index, length)

    if 0 <= at <= length:
        assert list(range(length))[:at] == list(range(length))[:index]
    else:
        assert index is not None
        assert not -length <= index <= length


def test_every_reason_is_one_that_the_vocabulary_knows() -> None:
    for command in EVERY_COMMAND:
        for event in endings(command):
            assert decode(encode(event), type(event)) == event
