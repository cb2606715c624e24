"""Who is connected over UCX: hello, welcome, goodbye, and losses told when nothing is under way."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable

from msgspec import Struct

from ._libucp import Received, UcxError, Worker
from .commands import Commands
from .connection import Connection, join_address
from .transport import PeerId, Unreachable, peer_id

log = logging.getLogger(__name__)
MESSAGE, HELLO, WELCOME, GOODBYE, ALERT = 1, 2, 3, 4, 5
_CONNECTING_S = 6.0
"""How long a peer may take to welcome us. UCX watches only over peers that have answered it: one
that dies before would never be missed."""
_LEAVING_S = 0.25
"""How long closing waits for peers to take our goodbye."""


class _Awaited(Struct):
    """A peer that has not answered yet."""

    until: float
    """When it is taken for lost."""
    held: list[bytes]
    """What it is told as soon as it has answered."""


class _Parting(Struct, frozen=True, eq=False):
    """A connection that we gave up, while our goodbye is on its way."""

    connection: Connection
    until: float
    """When it is closed, whatever is still under way."""


class Peers:
    """For the transport's thread only; ``on_lost`` is called once for each connection."""

    def __init__(
        self,
        worker: Worker,
        identity: PeerId,
        commands: Commands,
        on_lost: Callable[[PeerId], None],
    ) -> None:
        self.address = join_address(identity, worker.address)
        self.num_lost = 0
        self._worker, self._identity = worker, identity
        self._guard, self._on_lost = commands.guard, on_lost
        self._connections: dict[PeerId, Connection] = {}
        self._connecting: dict[PeerId, _Awaited] = {}
        self._parting: list[_Parting] = []
        """Lost, and not closed yet: the peer may live on, and would not miss us by itself."""
        self._leaving: list[Connection] = []
        """Closed, and not told yet: something of them is still under way."""

    def __len__(self) -> int:
        return len(self._connections)

    def find(self, peer: PeerId) -> Connection | None:
        return self._connections.get(peer)

    def is_leaving(self, peer: PeerId) -> bool:
        """Whether a connection with it is lost, and that was not told yet."""
        if not (self._leaving or self._parting):  # as nearly always
            return False
        lost = [*self._leaving, *(parting.connection for parting in self._parting)]
        return any(connection.peer == peer for connection in lost)

    def connect(self, address: bytes) -> PeerId:
        """As `Transport.connect`. Nothing is put or sent on a new connection before the loss of the
        last one is told: whoever hears of it takes it for the end of all that."""
        peer = peer_id(address)
        if peer not in self._connections and not self.is_leaving(peer):
            try:
                connection = Connection(self._worker, address)
            except UcxError as error:
                raise Unreachable(address, str(error)) from None
            self._connections[peer] = connection
            self._connecting[peer] = _Awaited(time.monotonic() + _CONNECTING_S, [])
            self.say(connection, HELLO, self.address)
        return peer

    def tell(self, connection: Connection, data: bytes) -> None:
        """A message, once the peer has answered. Who never does is told of as lost while it may
        live on, stopped: when it goes on, it must not do what a lost peer cannot do."""
        if awaited := self._connecting.get(connection.peer):
            awaited.held.append(data)
        else:
            self.say(connection, MESSAGE, data)

    def say(self, connection: Connection, number: int, data: bytes = b"") -> None:
        self.attempt(connection, lambda: connection.send(number, self._identity, data))

    def attempt(self, connection: Connection, act: Callable[[], None]) -> None:
        """A connection that cannot be written to is lost, whether or not UCX has told so. One that
        was lost before is left alone: its handle is void."""
        if self._connections.get(connection.peer) is not connection:
            return
        try:
            act()
        except UcxError as error:
            self._give_up(connection, str(error))

    def heard(self, message: Received) -> None:
        """What peers say about themselves."""
        if message.number == HELLO:
            self._guard(lambda: self._welcome(message.data))
        elif message.number == WELCOME:
            self._answered(message.header)
        elif leaving := self._connections.get(message.header):
            self._lose(leaving)  # it knows

    def notice(self) -> bool:
        """Act on failures, then flushes that landed, then losses that are complete; whether there
        were any but failures. A flush of a new connection waits for the loss of the one before."""
        while self._worker.failed:
            self._lose_endpoint(*self._worker.failed.popleft())
        busy = [c for c in self._connections.values() if c.is_busy and not self.is_leaving(c.peer)]
        happened = False
        for connection in busy:
            happened |= self._land(connection)
        if self._parting:
            self._have_parted()
        return self._tell_losses() or happened

    def lose_late(self) -> None:
        """Lose who has not answered in time. To be called when all that has come was heard: an
        answer may wait while we are the ones who were stopped."""
        if not self._connecting:
            return
        now = time.monotonic()
        for late in [peer for peer, it in self._connecting.items() if now >= it.until]:
            self._give_up(self._connections[late], "it never answered")

    def bound(self, timeout_s: float | None) -> float | None:
        """The timeout, or what is left until somebody who has not answered, or does not take our
        goodbye, is lost."""
        limits = [awaited.until for awaited in self._connecting.values()]
        limits += [parting.until for parting in self._parting]
        if not limits:
            return timeout_s
        left_s = max(min(limits) - time.monotonic(), 0.0)
        return left_s if timeout_s is None else min(left_s, timeout_s)

    def take_leave(self) -> None:
        """Say goodbye, wait a moment for it to be taken, and close every endpoint."""
        for connection in list(self._connections.values()):
            self._answered(connection.peer)  # it no longer matters whether it has
            self._part(connection)
        self._progress_until(self._have_parted)
        for parting in self._parting:
            self._close(parting.connection)
        self._progress_until(lambda: all(connection.settled() for connection in self._leaving))

    # --- steps ----------------------------------------------------------------------------------

    def _welcome(self, address: bytes) -> None:
        """Connect back, so that both sides notice when the other is gone."""
        try:
            peer = self.connect(address)
        except Unreachable as error:
            log.warning("a peer said hello and is gone: %s", error)
            return
        if found := self._connections.get(peer):
            self.say(found, WELCOME)

    def _answered(self, peer: PeerId) -> None:
        awaited, found = self._connecting.pop(peer, None), self._connections.get(peer)
        if awaited and found:
            for data in awaited.held:
                self.say(found, MESSAGE, data)

    def _land(self, connection: Connection) -> bool:
        """Call what waits for flushes that landed, while the connection is not lost by it."""
        connection.settled()
        happened = False
        while self._connections.get(connection.peer) is connection:
            try:
                done = connection.landed()
            except UcxError as error:
                self._give_up(connection, str(error))
                return True
            if done is None:
                break
            self._guard(done)
            happened = True
        return happened

    def _lose_endpoint(self, handle: int, status: int) -> None:
        for connection in list(self._connections.values()):
            if connection.endpoint.handle.value == handle:
                log.warning("peer %s is gone: UCX status %d", connection.peer.hex(), status)
                self._lose(connection)

    def _give_up(self, connection: Connection, why: str) -> None:
        log.warning("the connection to peer %s is given up: %s", connection.peer.hex(), why)
        self._part(connection)

    def _part(self, connection: Connection) -> None:
        """As `_lose`, for what we end by ourselves: a peer that lives on hears of it."""
        if not self._remove(connection):
            return
        try:
            connection.send(GOODBYE, self._identity, b"")
            connection.flush_last()
        except UcxError:  # it is broken on both sides, or the peer is dead
            self._close(connection)
        else:
            self._parting.append(_Parting(connection, time.monotonic() + _LEAVING_S))

    def _lose(self, connection: Connection) -> None:
        """From here on nothing is put or sent; told once nothing is under way."""
        if self._remove(connection):
            self._close(connection)

    def _remove(self, connection: Connection) -> bool:
        """Whether it was there."""
        if self._connections.get(connection.peer) is not connection:
            return False
        del self._connections[connection.peer]
        self._connecting.pop(connection.peer, None)
        return True

    def _have_parted(self) -> bool:
        """Close whom our goodbye has left for, or who does not take it; whether that is all."""
        now, parting = time.monotonic(), self._parting
        self._parting = [p for p in parting if not p.connection.settled() and now < p.until]
        for parted in parting:
            if parted not in self._parting:
                self._close(parted.connection)
        return not self._parting

    def _close(self, connection: Connection) -> None:
        connection.close()
        self._leaving.append(connection)

    def _tell_losses(self) -> bool:
        if not self._leaving:
            return False
        gone = [connection for connection in self._leaving if connection.settled()]
        for connection in gone:
            self._leaving.remove(connection)
            self.num_lost += 1
            self._guard(functools.partial(self._on_lost, connection.peer))
        return bool(gone)

    def _progress_until(self, settled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LEAVING_S
        while not settled() and time.monotonic() < deadline:
            self._worker.progress()
