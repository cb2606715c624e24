"""Pages that exist already: the receiver reads them, and both sides agree on how it ended."""

from __future__ import annotations

import msgspec
import pytest

from bus.transfers import Arrived, Delivered, Fenced, SendFailed
from kvtransport.effects import Drop, Effect, Flush, Get, Put, Send, Tell
from kvtransport.layout import as_pages
from kvtransport.ledger import Ledger
from kvtransport.protocol import (
    Agreed,
    Ceased,
    Lend,
    Opened,
    Reading,
    Recall,
    Refuse,
    Revoke,
    Taken,
)

from .ledgers import GRANT as THEIR_GRANT
from .ledgers import NAME, SHAPE, THERE, ledger, opened, writing
from .shapes import shape

LEND = Lend(5, 1, ((2, 2),), shape(num_pages=20), b"their pool")
TAKEN = Taken(9, 1, 6, "sysv", 0.5)


def reading() -> Ledger:
    """A receiver that reads since second 2."""
    made = opened()
    made.received(THERE, LEND, 2.0)
    return made


def lending() -> Ledger:
    """A sender that lends since second 2."""
    made = writing()
    made.lend(NAME, as_pages([7, 3]), 2.0)
    return made


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


# --- the sender -------------------------------------------------------------------------------


def test_lending_tells_the_receiver_where_the_pages_are() -> None:
    effects = writing().lend(NAME, as_pages([7, 3]), 2.0)

    assert effects == [Send(THERE, Lend(9, 1, ((7, 1), (3, 1)), SHAPE, b"pool"))]


def test_a_loan_waits_until_the_sender_is_let_in() -> None:
    made = ledger()
    made.open(THEIR_GRANT, 0.0)

    early = made.lend(NAME, as_pages([7, 3]), 0.5)
    effects = made.received(THERE, Opened(9, 1), 1.0)

    assert early == []
    assert effects == [Send(THERE, Lend(9, 1, ((7, 1), (3, 1)), SHAPE, b"pool"))]


def test_what_was_taken_is_delivered_and_agreed() -> None:
    effects = lending().received(THERE, TAKEN, 3.0)

    assert effects == [
        Send(THERE, Agreed(9, 1)),
        Tell(
            Delivered(
                *NAME,
                num_bytes=2 * 3 * 64,
                num_runs=6,
                seconds=1.0,
                exposed_s=1.0,
                lane="sysv",
                write_s=0.5,
            )
        ),
    ]


def test_what_was_taken_after_the_end_is_not_agreed() -> None:
    made = lending()
    made.received(THERE, TAKEN, 3.0)

    effects = made.received(THERE, TAKEN, 3.0)

    assert effects == [Send(THERE, Ceased(9, 1, "the transfer had ended"))]


def test_lent_pages_are_asked_back_and_kept_until_the_reader_has_stopped() -> None:
    made = lending()

    recalled = made.abort(NAME, "aborted", 3.0)
    silence = made.tick(32.0)
    asked_again = made.tick(33.0)
    ended = made.received(THERE, Refuse(9, 1, "transfer_failed", "aborted"), 3001.0)

    assert recalled == asked_again == [Send(THERE, Recall(9, 1, "aborted"))]
    assert silence == []
    assert ended[-1] == Tell(SendFailed(*NAME, reason="transfer_failed: aborted"))


def test_a_reader_that_was_faster_than_the_recall_wins() -> None:
    made = lending()
    made.abort(NAME, "aborted", 3.0)

    effects = made.received(THERE, TAKEN, 3.5)

    assert kinds(effects) == [Send, Tell]
    assert isinstance(effects[1], Tell)
    assert isinstance(effects[1].event, Delivered)


def test_a_silent_reader_is_recalled_after_a_lease() -> None:
    made = lending()
    made.received(THERE, Reading(9, 1), 20.0)

    assert made.tick(49.0) == []
    effects = made.tick(50.0)

    assert effects == [Send(THERE, Recall(9, 1, "nothing happened for 30 s"))]


def test_a_lost_reader_ends_the_loan() -> None:
    effects = lending().lost(THERE)

    assert effects[-1] == Tell(SendFailed(*NAME, reason="the receiver was lost"))


@pytest.mark.parametrize(
    ("pages", "why"), [([7], "1 pages lent for 2 granted ones"), ([7, 99], "pages 7 to 99")]
)
def test_a_loan_that_does_not_fit_fails(pages: list[int], why: str) -> None:
    made = writing()

    stopping = made.lend(NAME, as_pages(pages), 2.0)
    ended = made.flushed(1, "sysv", 3.0)

    assert kinds(stopping) == [Drop, Flush]
    assert isinstance(ended[-1], Tell)
    assert why in ended[-1].event.reason  # type: ignore[union-attr]


# --- the receiver -----------------------------------------------------------------------------


def test_a_reader_reads_every_layer_and_then_flushes() -> None:
    effects = opened().received(THERE, LEND, 2.0)

    assert kinds(effects) == [Get, Get, Get, Flush]
    gets = [effect for effect in effects if isinstance(effect, Get)]
    assert [get.runs.local.tolist() for get in gets] == [
        [(16 * n + 4) * 64, (16 * n + 9) * 64] for n in range(3)
    ]
    assert [get.runs.remote.tolist() for get in gets] == [
        [(20 * n + 2) * 64, (20 * n + 3) * 64] for n in range(3)
    ]
    assert {(get.transfer, get.memory) for get in gets} == {(-5, b"their pool")}


def test_what_was_read_arrives_when_the_lender_agrees() -> None:
    made = reading()
    made.progressed(-5, 2.5, 0.25)

    landed = made.flushed(-5, "sysv", 3.0)
    agreed = made.received(THERE, Agreed(5, 1), 3.5)

    assert landed == [Send(THERE, Taken(5, 1, 6, "sysv", 0.25))]
    assert agreed == [Tell(Arrived(*NAME, num_bytes=384))]


def test_what_a_lender_does_not_vouch_for_did_not_arrive() -> None:
    made = reading()
    made.flushed(-5, "sysv", 3.0)

    effects = made.received(THERE, Ceased(5, 1, "the transfer had ended"), 3.5)

    assert effects == [Tell(Fenced(*NAME, reason="the transfer had ended"))]


def test_a_reader_that_is_revoked_stops_before_its_pages_are_free() -> None:
    made = reading()

    stopping = made.revoke(NAME, "revoked", 5.0)
    landed = made.flushed(-5, "sysv", 3.0)

    assert stopping == [Drop(-5), Flush(-5, THERE, b"their pool")]
    assert landed == [
        Send(THERE, Refuse(5, 1, "transfer_failed", "revoked")),
        Tell(Fenced(*NAME, reason="revoked")),
    ]


def test_a_recall_stops_the_reader() -> None:
    made = reading()

    assert made.received(THERE, Recall(5, 1, "aborted"), 2.5) == [
        Drop(-5),
        Flush(-5, THERE, b"their pool"),
    ]


def test_a_recall_of_what_has_ended_is_answered() -> None:
    effects = opened().received(THERE, Recall(8, 1, "aborted"), 2.5)

    assert effects == [Send(THERE, Refuse(8, 1, "no_such_flow", "the grant has ended"))]


def test_a_revocation_after_the_last_byte_comes_too_late() -> None:
    made = reading()
    made.flushed(-5, "sysv", 3.0)

    assert made.revoke(NAME, "revoked", 5.0) == []
    assert made.received(THERE, Agreed(5, 1), 3.5) == [Tell(Arrived(*NAME, num_bytes=384))]


def test_a_loan_that_crosses_a_revocation_is_refused_and_fences() -> None:
    made = opened()
    revoked = made.revoke(NAME, "revoked", 5.0)

    effects = made.received(THERE, LEND, 2.0)

    assert revoked == [Send(THERE, Revoke(5, 1, "revoked"))]
    assert effects == [
        Send(THERE, Refuse(5, 1, "no_such_flow", "the grant was revoked")),
        Tell(Fenced(*NAME, reason="revoked")),
    ]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (
            {"shape": shape(page_bytes=128)},
            "page_bytes is 128 at the sender and 64 at the receiver",
        ),
        ({"pages": ((2, 3),)}, "3 pages were lent, 2 are granted"),
    ],
)
def test_pages_that_do_not_fit_are_refused_in_words(changed: dict[str, object], why: str) -> None:
    effects = opened().received(THERE, msgspec.structs.replace(LEND, **changed), 2.0)

    assert kinds(effects) == [Send, Tell]
    assert isinstance(effects[0], Send)
    assert isinstance(effects[0].message, Refuse)
    assert why in effects[0].message.message


def test_a_reader_tells_the_lender_at_half_the_lease_that_it_goes_on() -> None:
    made = reading()

    assert made.progressed(-5, 16.9) == []
    assert made.progressed(-5, 17.0) == [Send(THERE, Reading(5, 1))]
    assert made.tick(46.9) == []
    assert kinds(made.tick(47.0)) == [Drop, Flush]


def test_a_lost_lender_fences_the_grant() -> None:
    assert reading().lost(THERE) == [Tell(Fenced(*NAME, reason="the sender was lost"))]


def test_a_repeated_loan_is_read_once() -> None:
    assert reading().received(THERE, LEND, 2.5) == []


def test_nothing_is_written_with_a_grant_that_is_read() -> None:
    effects = lending().lend(NAME, as_pages([7, 3]), 2.5)

    assert not any(isinstance(effect, Put) for effect in effects)
