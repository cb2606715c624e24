"""What a ledger that sends answers to one event."""

from __future__ import annotations

import msgspec
import pytest

from bus.transfers import Delivered, SendFailed
from kvtransport.effects import Connect, Drop, Flush, Put, Send, Tell
from kvtransport.layout import as_pages
from kvtransport.outgoing import Write
from kvtransport.protocol import (
    Ceased,
    Complete,
    Done,
    Open,
    Opened,
    Refuse,
    Renew,
    Revoke,
)

from .ledgers import (
    GRANT,
    HERE,
    NAME,
    THERE,
    completing,
    ledger,
    write_all,
    writing,
)


def test_nothing_is_written_before_the_receiver_let_us_in() -> None:
    sender = ledger()

    asked = sender.open(GRANT, 0.0)
    waiting = sender.write(NAME, Write(0, 0, as_pages([1, 2])), 0.5)
    let_in = sender.received(THERE, Opened(9, 1), 1.0)

    assert asked == [
        Connect(THERE),
        Send(THERE, Open(9, 1, HERE, "there", 3, "f1", 1, 0, 8)),
    ]
    assert waiting == []
    assert [type(effect) for effect in let_in] == [Put]


def test_a_transfer_goes_from_opening_to_delivery() -> None:
    sender = writing()
    write_all(sender, now=2.0)

    assert sender.finish(NAME, 3.0) == [Flush(1, THERE, b"memory")]
    assert sender.flushed(1, "sysv", 4.0) == [Send(THERE, Complete(9, 1))]
    assert sender.received(THERE, Done(9, 1), 5.0) == [
        Tell(Delivered("f1", 1, num_bytes=384, num_runs=3, seconds=3.0, exposed_s=2.0, lane="sysv"))
    ]
    assert sender.num_sending == 0


def test_a_transfer_finished_before_it_was_let_in_is_flushed_after_its_writes() -> None:
    sender = ledger()
    sender.open(GRANT, 0.0)
    write_all(sender)
    sender.finish(NAME, 2.0)

    effects = sender.received(THERE, Opened(9, 1), 3.0)

    assert [type(effect) for effect in effects] == [Put, Put, Put, Flush]


def test_pages_go_to_the_granted_ones_from_the_first_on() -> None:
    (put,) = writing().write(NAME, Write(2, 1, as_pages([8])), 2.0)

    assert isinstance(put, Put)
    assert put.runs.local.tolist() == [(2 * 16 + 8) * 64]
    assert put.runs.remote.tolist() == [(2 * 16 + 5) * 64]


@pytest.mark.parametrize(
    "write",
    [
        Write(3, 0, as_pages([1])),
        Write(-1, 0, as_pages([1])),
        Write(0, 1, as_pages([1, 2])),
        Write(0, -1, as_pages([1])),
        Write(0, 0, as_pages([16])),
    ],
)
def test_a_write_out_of_bounds_ends_the_transfer(write: Write) -> None:
    sender = writing()

    stopped = sender.write(NAME, write, 2.0)
    ended = sender.flushed(1, "sysv", 3.0)

    assert stopped == [Drop(1), Flush(1, THERE, b"memory")]
    assert isinstance(ended[-1], Tell)
    assert isinstance(ended[-1].event, SendFailed)


def test_a_transfer_with_pages_missing_is_not_completed() -> None:
    sender = writing()
    sender.write(NAME, Write(0, 0, as_pages([1, 2])), 2.0)

    stopped = sender.finish(NAME, 3.0)
    ended = sender.flushed(1, "sysv", 4.0)

    assert stopped == [Drop(1), Flush(1, THERE, b"memory")]
    reason = "finished with 4 of 6 pages not written"
    assert ended == [
        Send(THERE, Ceased(9, 1, reason)),
        Drop(1),
        Tell(SendFailed("f1", 1, reason)),
    ]


def test_the_time_without_anything_to_write_is_not_the_lanes() -> None:
    sender = writing()
    for layer, now in enumerate((10.0, 20.0, 30.0)):
        sender.write(NAME, Write(layer, 0, as_pages([1, 2])), now)
        sender.progressed(1, now + 1.0, seconds=0.5)
    sender.finish(NAME, 40.0)
    sender.flushed(1, "sysv", 40.5)

    (told,) = sender.received(THERE, Done(9, 1), 41.0)

    assert isinstance(told, Tell)
    assert isinstance(told.event, Delivered)
    assert (told.event.seconds, told.event.write_s) == (31.0, 1.5)


def test_an_empty_grant_is_delivered_without_a_write() -> None:
    sender = ledger()
    sender.open(msgspec.structs.replace(GRANT, end=0, pages=()), 0.0)
    sender.received(THERE, Opened(9, 1), 1.0)

    assert sender.finish(NAME, 2.0) == [Flush(1, THERE, b"memory")]


def test_a_refused_opening_fails_at_once() -> None:
    sender = ledger()
    sender.open(GRANT, 0.0)

    effects = sender.received(THERE, Refuse(9, 1, "stale_epoch", "restarted"), 1.0)

    assert effects == [Drop(1), Tell(SendFailed("f1", 1, "stale_epoch: restarted"))]


def test_a_refused_completion_fails_at_once() -> None:
    effects = completing().received(THERE, Refuse(9, 1, "no_such_flow", "gone"), 5.0)

    assert effects == [Drop(1), Tell(SendFailed("f1", 1, "no_such_flow: gone"))]


def test_a_revoked_transfer_says_that_it_stopped_when_its_writes_have_landed() -> None:
    sender = writing()
    write_all(sender)

    stopped = sender.received(THERE, Revoke(9, 1, "cancelled"), 3.0)
    late = sender.write(NAME, Write(0, 0, as_pages([1])), 3.5)
    ended = sender.flushed(1, "sysv", 4.0)

    assert stopped == [Drop(1), Flush(1, THERE, b"memory")]
    assert late == []
    reason = "revoked by the receiver: cancelled"
    assert ended == [
        Send(THERE, Ceased(9, 1, reason)),
        Drop(1),
        Tell(SendFailed("f1", 1, reason)),
    ]


def test_an_abort_while_opening_takes_effect_at_once() -> None:
    sender = ledger()
    sender.open(GRANT, 0.0)

    effects = sender.abort(NAME, "aborted", 1.0)

    assert effects == [
        Send(THERE, Ceased(9, 1, "aborted")),
        Drop(1),
        Tell(SendFailed("f1", 1, "aborted")),
    ]


def test_an_abort_after_the_last_byte_waits_for_the_answer() -> None:
    sender = completing()

    assert sender.abort(NAME, "aborted", 5.0) == []
    assert isinstance(sender.received(THERE, Done(9, 1), 6.0)[0], Tell)


@pytest.mark.parametrize("message", [Opened(9, 4), Revoke(9, 4, "late")])
def test_a_receiver_that_waits_for_an_ended_transfer_is_told(message: Opened | Revoke) -> None:
    effects = ledger().received(THERE, message, 1.0)

    assert effects == [Send(THERE, Ceased(9, 4, "the transfer had ended"))]


@pytest.mark.parametrize("message", [Done(9, 4), Refuse(9, 4, "busy", "")])
def test_other_late_messages_are_ignored(message: Done | Refuse) -> None:
    assert ledger().received(THERE, message, 1.0) == []


def test_an_opening_without_an_answer_fails_after_the_lease() -> None:
    sender = ledger()
    sender.open(GRANT, 0.0)

    assert sender.deadline() == 30.0
    assert sender.tick(29.0) == []
    assert [type(effect) for effect in sender.tick(30.0)] == [Send, Drop, Tell]


def test_a_completion_without_an_answer_fails_after_the_lease() -> None:
    sender = completing()
    sender.tick(33.0)

    assert sender.tick(34.0) == [
        Drop(1),
        Tell(SendFailed("f1", 1, "no acknowledgement: nothing happened for 30 s")),
    ]


def test_a_transfer_without_progress_stops_after_the_lease() -> None:
    sender = writing()

    assert sender.tick(30.9) == []
    assert sender.tick(31.0) == [Drop(1), Flush(1, THERE, b"memory")]


def test_progress_is_told_to_the_receiver_at_half_of_its_lease() -> None:
    sender = writing()
    sender.progressed(1, 10.0)

    assert sender.deadline() == 16.0
    assert sender.tick(16.0) == [Send(THERE, Renew(9, 1))]
    assert sender.deadline() == 40.0
    assert sender.tick(39.0) == []


def test_a_flush_is_waited_for_as_long_as_the_peer_lives() -> None:
    sender = writing()
    write_all(sender)
    sender.finish(NAME, 3.0)
    sender.tick(16.0)

    assert sender.deadline() is None
    assert sender.tick(1000.0) == []
    assert sender.lost(THERE) == [Drop(1), Tell(SendFailed("f1", 1, "the receiver was lost"))]
