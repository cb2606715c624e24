"""What one ledger answers to one event; the interleavings are tried elsewhere."""

from __future__ import annotations

import msgspec
import pytest

from bus.messages import Reason
from bus.transfers import Arrived, Delivered, Fenced, SendFailed
from kvtransport.effects import Connect, Drop, Flush, Put, Send, Tell
from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.layout import as_pages
from kvtransport.ledger import Ledger
from kvtransport.opening import Life
from kvtransport.outgoing import Home, Write
from kvtransport.protocol import (
    Ceased,
    Complete,
    Done,
    Open,
    Opened,
    Refuse,
    Renew,
    Revoke,
    decode,
    encode,
)
from kvtransport.receiving import Receiver
from kvtransport.sending import Sender

from .shapes import shape

SHAPE = shape()
HERE, THERE, THIRD = b"H" * 16, b"T" * 16, b"3" * 16
NAME = ("f1", 1)
OFFER = Offer(NAME, 5, 0, 8, as_pages([4, 9]), 2 * 3 * 64, 30.0)
OPEN = Open(5, 1, THERE, "here", 7, "f1", 1, 0, 8)
GRANT = Grant(
    engine="there",
    epoch=3,
    serial=9,
    flow="f1",
    attempt=1,
    begin=0,
    end=8,
    pages=((4, 2),),
    shape=SHAPE,
    address=THERE,
    memory=b"memory",
    lease_s=30.0,
    expires_at=30.0,
)
FAILED = (9, 1)


def ledger() -> Ledger:
    receiver = Receiver(Life("here", 7), 30.0, SHAPE)
    return Ledger(receiver, Sender(Home(HERE, b"pool", SHAPE)))


def granted() -> Ledger:
    made = ledger()
    made.grant(OFFER)
    return made


def opened() -> Ledger:
    """A receiver whose grant somebody uses since second 1."""
    made = granted()
    made.received(THERE, OPEN, 1.0)
    return made


def writing() -> Ledger:
    """A sender that was let in at second 1."""
    made = ledger()
    made.open(GRANT, 0.0)
    made.received(THERE, Opened(9, 1), 1.0)
    return made


def write_all(made: Ledger, now: float = 2.0) -> None:
    for layer in range(SHAPE.num_layers):
        made.write(NAME, Write(layer, 0, as_pages([1, 2])), now)


def completing() -> Ledger:
    made = writing()
    write_all(made)
    made.finish(NAME, 3.0)
    made.flushed(1, "sysv", 4.0)
    return made


# --- receiving ----------------------------------------------------------------------------------


def test_a_writer_is_let_in_once_everything_fits() -> None:
    effects = granted().received(THERE, OPEN, 1.0)

    assert effects == [Connect(THERE), Send(THERE, Opened(5, 1))]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"epoch": 6}, "stale_epoch"),
        ({"engine": "elsewhere"}, "stale_epoch"),
        ({"grant": 4}, "no_such_flow"),
        ({"attempt": 2}, "stale_attempt"),
        ({"flow": "f2"}, "stale_attempt"),
        ({"end": 12}, "bad_range"),
        ({"begin": 4}, "bad_range"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_byte(
    changed: dict[str, object], reason: Reason
) -> None:
    asked = msgspec.structs.replace(OPEN, **changed)

    connect, sent = granted().received(THERE, asked, 1.0)

    assert connect == Connect(THERE)
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Refuse)
    assert sent.message.reason == reason


def test_an_expired_grant_lets_nobody_in() -> None:
    _, sent = granted().received(THERE, OPEN, 30.0)

    assert isinstance(sent, Send)
    assert isinstance(sent.message, Refuse)
    assert sent.message.reason == "transfer_failed"


def test_a_grant_is_used_once() -> None:
    receiver = opened()

    _, second = receiver.received(THIRD, msgspec.structs.replace(OPEN, address=THIRD), 2.0)
    _, repeated = receiver.received(THERE, OPEN, 2.0)

    assert isinstance(second, Send)
    assert isinstance(second.message, Refuse)
    assert second.message.reason == "out_of_order"
    assert repeated == Send(THERE, Opened(5, 1))


def test_an_open_with_somebody_elses_address_is_ignored() -> None:
    assert granted().received(THIRD, OPEN, 1.0) == []


def test_only_the_writer_can_complete_or_cease() -> None:
    receiver = opened()

    others = [
        effect
        for peer, transfer in ((THIRD, 1), (THERE, 2))
        for message in (Complete(5, transfer), Ceased(5, transfer, ""), Renew(5, transfer))
        for effect in receiver.received(peer, message, 29.0)
    ]

    assert [type(effect) for effect in others] == [Send, Send]  # two refusals of Complete
    assert receiver.deadline() == 31.0
    assert receiver.num_receiving == 1


def test_completion_is_acknowledged_and_told() -> None:
    effects = opened().received(THERE, Complete(5, 1), 2.0)

    assert effects == [Send(THERE, Done(5, 1)), Tell(Arrived("f1", 1, num_bytes=384))]


def test_a_grant_nobody_opened_is_fenced_at_once() -> None:
    assert granted().revoke(NAME, "revoked", 5.0) == [Tell(Fenced("f1", 1, "revoked"))]


def test_an_opened_grant_is_fenced_when_its_writer_has_stopped() -> None:
    receiver = opened()

    asked = receiver.revoke(NAME, "revoked", 5.0)
    again = receiver.revoke(NAME, "revoked", 5.0)
    answered = receiver.received(THERE, Ceased(5, 1, "revoked by the receiver"), 9.0)

    assert asked == [Send(THERE, Revoke(5, 1, "revoked"))]
    assert again == []
    assert answered == [Tell(Fenced("f1", 1, "revoked"))]


def test_completion_that_crosses_a_revocation_fences_and_is_refused() -> None:
    receiver = opened()
    receiver.revoke(NAME, "revoked", 5.0)

    refusal, told = receiver.received(THERE, Complete(5, 1), 9.0)

    assert isinstance(refusal, Send)
    assert isinstance(refusal.message, Refuse)
    assert told == Tell(Fenced("f1", 1, "revoked"))


def test_revoking_what_is_not_there_changes_nothing() -> None:
    assert ledger().revoke(NAME, "revoked", 5.0) == []


def test_the_lease_of_an_unopened_grant_runs_out() -> None:
    receiver = granted()

    assert receiver.deadline() == 30.0
    assert receiver.tick(29.9) == []
    assert receiver.tick(30.0) == [Tell(Fenced("f1", 1, "the lease ran out"))]
    assert receiver.deadline() is None


def test_a_writer_that_falls_silent_is_told_to_stop_and_keeps_its_pages_until_it_has() -> None:
    receiver = opened()

    assert receiver.tick(31.0) == [Send(THERE, Revoke(5, 1, "the lease ran out"))]
    assert receiver.tick(60.0) == []
    assert receiver.tick(61.0) == [Send(THERE, Revoke(5, 1, "the lease ran out"))]
    assert receiver.lost(THERE) == [Tell(Fenced("f1", 1, "the sender was lost"))]


def test_progress_renews_the_lease() -> None:
    receiver = opened()

    receiver.received(THERE, Renew(5, 1), 20.0)

    assert receiver.deadline() == 50.0


def test_losing_another_peer_changes_nothing() -> None:
    assert opened().lost(THIRD) == []


# --- sending ------------------------------------------------------------------------------------


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


def test_stopping_and_abandoning_end_everything() -> None:
    both = opened()
    both.open(msgspec.structs.replace(GRANT, flow="f2"), 0.0)

    stopped = both.stop("closing", 2.0)
    abandoned = both.abandon("closed")

    assert Tell(SendFailed("f2", 1, "closing")) in stopped
    assert Send(THERE, Revoke(5, 1, "closing")) in stopped
    assert abandoned == [Tell(Fenced("f1", 1, "closed"))]
    assert both.num_receiving == both.num_sending == 0


def test_messages_travel_as_bytes() -> None:
    for message in (OPEN, Refuse(1, 2, "busy", "why"), Revoke(3, 4, "why"), Renew(5, 6)):
        assert decode(encode(message)) == message
