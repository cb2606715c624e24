"""What the KV data path needs of a network: write a peer's memory, then tell it.

Two implementations pass one conformance suite: `kvtransport.ucx.UcxTransport` and
`kvtransport.memory.MemoryTransport`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from .layout import Runs

PeerId: TypeAlias = bytes
"""Tells transports apart: a restarted engine's has another."""

PEER_ID_BYTES = 16


def peer_id(address: bytes) -> PeerId:
    """Whose address it is: an address begins with its owner's id."""
    return address[:PEER_ID_BYTES]


class TransportError(Exception):
    """The family of everything that a transport raises."""


class Unreachable(TransportError):
    """There is no way to the transport of this address; nothing is left of the attempt."""

    def __init__(self, address: bytes, why: str) -> None:
        super().__init__(f"cannot reach peer {peer_id(address).hex()}: {why}")
        self.address = address


class TransportClosed(TransportError):
    """The transport was closed before; it does nothing any more."""


class TransportStatistics(Struct, frozen=True):
    peers: int
    lost: int
    """Peers that failed, died or said goodbye."""
    put_bytes: int
    put_runs: int
    got_bytes: int
    got_runs: int
    sent: int
    received: int
    dropped: int
    """Messages that could not be sent, because their peer was lost."""
    failed: int
    """Handler or command calls that raised; each was logged, and the thread went on."""


class Handler(Protocol):
    """Who owns a transport. Every call comes from the transport's thread, one at a time."""

    def received(self, peer: PeerId, data: bytes) -> None: ...

    def lost(self, peer: PeerId) -> None:
        """The connection is gone: none of our puts to that peer is under way, none of our
        memory is read for it or written by it, and no ``done`` of a flush will be called. Nothing
        of another connection with the same peer is told before.

        Told once for each connection, whichever side asked for it, unless we close first.
        """
        ...

    def turn(self) -> float | None:
        """Do the work that is due, a millisecond or so at a time.

        Returns the seconds after which to be called again if nothing else happens before: 0 where
        more work is due, None where there is none.
        """
        ...


class Transport(Protocol):
    """One engine's access to its peers' memory, with a thread that does everything.

    Guarantees:
        * `put` and `get` are one-sided: the peer's thread and interpreter take no part in them.
        * Once a flush's ``done`` was called, every put to that peer before it has landed, and its
          source may be changed. A peer that died meanwhile may have lost them: only its answer
          to a later message shows that it has the bytes. Every get before it is here.
        * Messages to one peer arrive in order and once, after the puts that were flushed before;
          or the peer is lost.
        * A peer that dies or closes is told as `Handler.lost` to everybody that it was connected
          with, whoever connected: within a second or so, or six if it never answered.
        * Nothing runs while nothing happens.
    """

    @property
    def address(self) -> bytes:
        """How peers `connect` to us."""
        ...

    @property
    def memory(self) -> bytes:
        """What peers need, besides the address, to `put` into our pool."""
        ...

    def allocate(self, num_bytes: int) -> memoryview:
        """The pool, zeroed: memory that peers can write to. Once, and before `start`.

        The memory lives until the transport is closed and the last view or array of it is gone.
        """
        ...

    def start(self, handler: Handler) -> None:
        """Start the thread. Once."""
        ...

    def call(self, command: Callable[[], None]) -> None:
        """Have ``command`` called on the thread; from any thread, in order, without waiting.

        A command that was handed over before a peer could know of its consequences runs before
        that peer's messages are delivered.

        Raises:
            TransportClosed: it will not be called.
        """
        ...

    def close(self) -> None:
        """Take leave of all peers, join the thread; commands handed over before still run.

        From any thread but the transport's own. Calling it again does nothing.
        """
        ...

    def statistics(self) -> TransportStatistics:
        """From any thread."""
        ...

    # --- on the transport's own thread only -----------------------------------------------------

    def connect(self, address: bytes) -> PeerId:
        """Make sure that there is a connection, both ways. Does not wait for the peer.

        While the loss of the last one is still to be told there is none, and what is begun with
        that peer ends with the telling.

        Raises:
            Unreachable: there is no lane to such an address.
        """
        ...

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        """Begin copying ``runs`` of our pool into the peer's; nothing where the peer was lost.

        Raises:
            ValueError: a run reaches out of our pool or theirs.
        """
        ...

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        """Begin copying ``runs`` of the peer's pool, their ``remote``, into ours, their ``local``;
        nothing where the peer was lost.

        Raises:
            ValueError: a run reaches out of our pool or theirs.
        """
        ...

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        """Call ``done`` once the puts and gets so far have landed, or never if the peer is lost
        before."""
        ...

    def send(self, peer: PeerId, data: bytes) -> None:
        """Send a message of up to a few thousand bytes, once the peer has answered to `connect`; it
        is dropped where the peer was lost, also before it answered."""
        ...

    def alert(self, peer: PeerId, memory: bytes) -> None:
        """A hint that a message follows as soon as a last piece has been copied from or to that
        memory: the peer's thread may wake up meanwhile. Costs little, and changes nothing."""
        ...

    def lane(self, peer: PeerId, memory: bytes) -> str:
        """How puts reach that memory: ``sysv`` and ``posix`` are shared memory, ``cma`` is the
        kernel's copy between processes, then ``tcp``, ``rc_mlx5`` and so on; ``none`` where
        they do not."""
        ...
