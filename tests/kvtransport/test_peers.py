"""What UCX connections do where peers are slow to answer, or break at a bad moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar, cast

import pytest

from kvtransport._libucp import Received, Request, UcxError
from kvtransport.connection import Connection, Pool
from kvtransport.layout import Runs
from kvtransport.peers import Peers
from kvtransport.transport import PeerId, peer_id
from kvtransport.ucx import UcxTransport

from .conftest import make_world
from .sites import LocalSite, Site
from .worlds import MIB, World, id_of, joined

_Kind = TypeVar("_Kind")


@pytest.fixture
def ucx() -> Iterator[World]:
    yield from make_world("ucx")


def stopped_in_between(ucx: World) -> tuple[Site, Site]:
    """The first has connected to the second, which was stopped before it could answer."""
    here, there = ucx.here(MIB), ucx.there(MIB)
    here.freeze()
    there.connect(here.address())
    there.freeze()
    here.thaw()
    here.connect(there.address())
    return here, there


def test_who_does_not_answer_in_time_is_never_told_what_was_said_before(ucx: World) -> None:
    """It may only have been stopped, and would then do what nobody reckons with any more."""
    here, there = stopped_in_between(ucx)
    gone = id_of(there)
    here.send(gone, b"before")

    assert here.loss() == gone
    there.thaw()
    here.connect(there.address())
    here.send(gone, b"afterwards")

    assert there.message() == (id_of(here), b"afterwards")


def test_what_was_said_to_a_peer_that_has_not_answered_is_said_before_we_leave(ucx: World) -> None:
    here, there = stopped_in_between(ucx)
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

    is_busy = False

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
    return replace_connection(here, there, BrokenConnection)


def replace_connection(here: Site, there: Site, kind: Callable[[Connection], _Kind]) -> _Kind:
    peers, peer = peers_of(here), id_of(there)
    assert isinstance(here, LocalSite)

    def replace() -> _Kind:
        other = kind(peers._connections[peer])
        peers._connections[peer] = cast(Connection, other)
        return other

    return here.do(replace)


def peers_of(here: Site) -> Peers:
    assert isinstance(here, LocalSite)
    assert isinstance(here.transport, UcxTransport)
    return here.transport._peers


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


class FailingConnection:
    """One of its calls fails, which has nothing to do with the peer."""

    def __init__(self, whole: Connection) -> None:
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def put(self, memory: bytes, ours: Pool, runs: Runs) -> None:
        raise UcxError("ucp_put_nbx", -4, "Out of memory")


def test_a_peer_that_we_give_up_hears_of_it_before_anything_new(ucx: World) -> None:
    """UCX would tell it, too, but half a second later: of the connection that is new by then."""
    here, there = joined(ucx)
    here.send(id_of(there), b"hello")
    there.message()
    replace_connection(here, there, FailingConnection)

    here.put(id_of(there), there.memory(), [(0, 0, 8)])
    assert here.loss() == id_of(there)
    here.connect(there.address())
    here.send(id_of(there), b"again")

    assert there.message() == (id_of(here), b"again")
    assert isinstance(there, LocalSite)
    assert there.told == ["received", "lost", "received"]


def test_a_peer_that_never_answered_hears_that_it_was_given_up_before_anything_new(
    ucx: World,
) -> None:
    here, there = stopped_in_between(ucx)
    peers = peers_of(here)
    assert isinstance(here, LocalSite)
    assert isinstance(there, LocalSite)

    here.do(lambda: setattr(peers._connecting[id_of(there)], "until", 0.0))
    assert here.loss() == id_of(there)
    here.connect(there.address())
    here.send(id_of(there), b"again")
    there.thaw()

    assert there.message() == (id_of(here), b"again")
    assert there.told == ["lost", "received"]


def test_nobody_is_connected_to_again_before_the_last_loss_is_told(ucx: World) -> None:
    """The loss would be taken for the new connection's, whose puts may be under way."""
    here, there = joined(ucx)
    peers, address = peers_of(here), there.address()
    assert isinstance(here, LocalSite)

    def lose_and_connect() -> tuple[bool, list[str]]:
        peers._lose(peers._connections[peer_id(address)])
        peers.connect(address)
        return peers.find(peer_id(address)) is None, list(here.told)

    assert here.do(lose_and_connect) == (True, [])
    assert here.loss() == id_of(there)
    here.connect(address)
    here.send(id_of(there), b"again")
    assert there.message() == (id_of(here), b"again")


class FailedRequest:
    """An operation that UCX has ended with an error."""

    def poll(self) -> bool:
        return True

    def check(self) -> None:
        raise UcxError("request", -2, "No resources are available to initiate the operation")


def test_a_flush_that_fails_loses_the_peer_and_is_not_taken_for_landed(
    ucx: World, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = joined(ucx)
    peers, landed = peers_of(here), list[str]()
    flush = cast(Request, FailedRequest()), lambda: landed.append("landed")
    assert isinstance(here, LocalSite)

    here.do(lambda: peers._connections[id_of(there)]._flushes.append(flush))

    assert here.loss() == id_of(there)
    assert landed == []
    assert f"the connection to peer {id_of(there).hex()} is given up: request" in caplog.text


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
