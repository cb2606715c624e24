"""What one ledger answers to one event; the interleavings are tried elsewhere. What it sends is in
`test_ledger_sending`."""

from __future__ import annotations

import msgspec
import pytest

from bus.messages import Reason
from bus.transfers import Arrived, Fenced, SendFailed
from kvtransport.effects import Connect, Send, Tell
from kvtransport.protocol import (
    Ceased,
    Complete,
    Done,
    Opened,
    Refuse,
    Renew,
    Revoke,
    decode,
    encode,
)

from .ledgers import (
    GRANT,
    NAME,
    OPEN,
    THERE,
    THIRD,
    granted,
    ledger,
    opened,
)


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
