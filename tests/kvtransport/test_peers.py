"""What UCX connections do where peers are slow to answer, or break at a bad moment."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

import pytest

from kvtransport._libucp import Received, UcxError
from kvtransport.connection import Connection
from kvtransport.transport import PeerId
from kvtransport.ucx import UcxTransport

from .conftest import make_world
from .sites import LocalSite, Site
from .worlds import MIB, World, id_of, joined


@pytest.fixture
def ucx() -> Iterator[World]:
    yield from make_world("ucx")


def test_who_does_not_answer_in_time_is_never_told_what_was_said_before(ucx: World) -> None:
    """It may only have been stopped, and would then do what nobody reckons with any more."""
    here, there = ucx.here(MIB), ucx.there(MIB)
    here.freeze()
    there.connect(here.address())
    there.freeze()
    here.thaw()
    gone = here.connect(there.address())
    here.send(gone, b"before")

    assert here.loss() == gone
    there.thaw()
    here.connect(there.address())
    here.send(gone, b"afterwards")

    assert there.message() == (id_of(here), b"afterwards")


def test_what_was_said_to_a_peer_that_has_not_answered_is_said_before_we_leave(ucx: World) -> None:
    here, there = ucx.here(MIB), ucx.there(MIB)
    here.freeze()
    there.connect(here.address())
    there.freeze()
    here.thaw()
    here.connect(there.address())
    here.send(id_of(there), b"last word")

    here.close()
    there.thaw()

    assert there.message() == (id_of(here), b"last word")


def test_an_answer_that_came_in_time_counts_however_late_it_is_heard(ucx: World) -> None:
    here, there = ucx.here(MIB), ucx.there(MIB)
    assert isinstance(here, LocalSite)
    assert isinstance(here.transport, UcxTransport)
    peers, worker = here.transport._peers, here.transport._worker
    address = there.address()

    def be_stopped_until_it_is_late() -> None:
        peer = peers.connect(address)
        while len(worker.messages) < 2:  # hello and welcome
            worker.progress()
        peers._connecting[peer].until = 0.0

    here.do(be_stopped_until_it_is_late)
    here.send(id_of(there), b"late")

    assert there.message() == (id_of(here), b"late")


class StuckConnection:
    """A lost connection of which something is still under way when a message comes, and nothing
    the next time somebody looks."""

    def __init__(self, peer: PeerId, messages: Collection[Received]) -> None:
        self.peer, self._messages, self._has_seen_one = peer, messages, False

    def settled(self) -> bool:
        settled, self._has_seen_one = self._has_seen_one, bool(self._messages)
        return settled


def test_a_loss_is_told_before_what_the_same_peer_says_on_a_new_connection(ucx: World) -> None:
    here, there = joined(ucx)
    assert isinstance(here, LocalSite)
    assert isinstance(here.transport, UcxTransport)
    peers, messages = here.transport._peers, here.transport._worker.messages
    stuck = cast(Connection, StuckConnection(id_of(there), messages))
    here.do(lambda: peers._leaving.append(stuck))

    there.send(id_of(here), b"again")

    assert here.message() == (id_of(there), b"again")
    assert here.told == ["lost", "received"]


class BrokenConnection:
    """Nothing works any more, which UCX has not told yet."""

    def __init__(self, whole: Connection) -> None:
        self.peer, self.endpoint = whole.peer, whole.endpoint
        self._whole, self._is_closed = whole, False
        self.asked_when_closed: list[str] = []

    def send(self, number: int, identity: bytes, data: bytes) -> None:
        self._break("send")

    def is_mapped(self, memory: bytes) -> bool:
        self._break("is_mapped")
        return True

    def flush_last(self) -> None:
        self._break("flush_last")

    def _break(self, what: str) -> None:
        if self._is_closed:
            self.asked_when_closed.append(what)
        raise UcxError(what, -25, "Connection reset by remote peer")

    def landed(self) -> None:
        return None

    def settled(self) -> bool:
        return self._whole.settled()

    def close(self) -> None:
        self._is_closed = True
        self._whole.close()


def break_connection(here: Site, there: Site) -> BrokenConnection:
    """What ``here`` has to ``there``."""
    assert isinstance(here, LocalSite)
    assert isinstance(here.transport, UcxTransport)
    peers, peer = here.transport._peers, id_of(there)

    def replace() -> BrokenConnection:
        broken = BrokenConnection(peers._connections[peer])
        peers._connections[peer] = cast(Connection, broken)
        return broken

    return here.do(replace)


def test_a_connection_that_breaks_at_the_goodbye_is_left_alone(ucx: World) -> None:
    here, there = joined(ucx)
    broken = break_connection(here, there)

    here.close()

    assert broken.asked_when_closed == []


def test_a_connection_that_breaks_at_an_alert_is_lost(ucx: World) -> None:
    here, there = joined(ucx)
    broken = break_connection(here, there)

    here.alert(id_of(there), there.memory())

    assert here.loss() == id_of(there)
    assert broken.asked_when_closed == []


def test_a_deadline_comes_nearer_while_a_peer_does_not_answer(ucx: World) -> None:
    here, there = ucx.here(MIB), ucx.there(MIB)
    there.freeze()
    here.connect(there.address())
    assert isinstance(here, LocalSite)
    assert isinstance(here.transport, UcxTransport)
    peers = here.transport._peers

    bounds = here.do(lambda: [peers.bound(None), peers.bound(None), peers.bound(0.5)])

    first, second, short = (bound or 0 for bound in bounds)
    assert 0.5 < second < first < 6
    assert short == 0.5
