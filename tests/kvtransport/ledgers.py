"""Ledgers that have come some way: what is granted and written there is always the same."""

from __future__ import annotations

from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.layout import as_pages
from kvtransport.ledger import Ledger
from kvtransport.opening import Life
from kvtransport.outgoing import Home, Write
from kvtransport.protocol import (
    Open,
    Opened,
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
