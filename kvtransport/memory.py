"""The in-memory twin of the UCX transport: engines of one process, deaths on demand.

```
network = MemoryNetwork()
left, right = network.transport(), network.transport()
...
right.die()  # left's handler hears `lost`, as it would of a killed process
```
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np

from .commands import Commands
from .layout import Bytes, Runs
from .mapped import copy_runs
from .transport import (
    PEER_ID_BYTES,
    Handler,
    PeerId,
    TransportStatistics,
    Unreachable,
    peer_id,
)

LANE = "memory"


class MemoryNetwork:
    """Knows every living transport of the network."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._alive: dict[PeerId, MemoryTransport] = {}
        self._severed: set[tuple[PeerId, PeerId]] = set()
        """(who, from whom) has been cut off and was not told yet."""
        self._lock = threading.Lock()

    def transport(self) -> MemoryTransport:
        """A new transport, reachable at once."""
        identity = next(self._numbers).to_bytes(PEER_ID_BYTES, "big")
        transport = MemoryTransport(self, identity)
        self.add(transport)
        return transport

    def add(self, transport: MemoryTransport) -> None:
        with self._lock:
            self._alive[transport.address] = transport

    def find(self, peer: PeerId) -> MemoryTransport | None:
        with self._lock:
            return self._alive.get(peer)

    def sever(self, one: PeerId, other: PeerId) -> None:
        """Break the connection between two that live on: both hear of it, and may connect again."""
        with self._lock:
            ends = self._alive.get(one), self._alive.get(other)
            if ends[0] is None or ends[1] is None:
                return
            self._severed |= {(one, other), (other, one)}
        ends[0].peer_died(other)
        ends[1].peer_died(one)

    def reach(self, who: PeerId, peer: PeerId) -> MemoryTransport | None:
        """The peer, where it lives and nothing has cut ``who`` off since it was told last."""
        with self._lock:
            return None if (who, peer) in self._severed else self._alive.get(peer)

    def told(self, who: PeerId, peer: PeerId) -> None:
        with self._lock:
            self._severed.discard((who, peer))

    def remove(self, peer: PeerId) -> None:
        """It is dead: all others hear of it."""
        with self._lock:
            if self._alive.pop(peer, None) is None:
                return
            others = list(self._alive.values())
        for other in others:
            other.peer_died(peer)


class MemoryTransport:
    """As `Transport` says. Puts land at once, flushes end on the next turn of the thread."""

    def __init__(self, network: MemoryNetwork, identity: PeerId) -> None:
        self._network, self.address = network, identity
        self._pool = np.empty(0, np.uint8)
        self._wakened = threading.Event()
        self._commands = Commands(self._wakened.set)
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._peers: set[PeerId] = set()
        self._counts = dict.fromkeys(TransportStatistics.__struct_fields__[1:-1], 0)

    @property
    def memory(self) -> bytes:
        return len(self._pool).to_bytes(8, "little")

    def allocate(self, num_bytes: int) -> memoryview:
        self._pool = np.zeros(num_bytes, np.uint8)
        return self._pool.data

    def start(self, handler: Handler) -> None:
        self._handler = handler
        name = f"kv-memory-{int.from_bytes(self.address, 'big')}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, command: Callable[[], None]) -> None:
        self._commands.add(command)

    def close(self) -> None:
        self._stopping = True
        self._wakened.set()
        if self._thread is not None:
            self._thread.join()
        self._network.remove(self.address)

    def die(self) -> None:
        """As a killed process would: nothing more is said, done or told here."""
        self._commands.discard()
        self.close()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            peers=len(self._peers), **self._counts, failed=self._commands.failed
        )

    # --- on the thread --------------------------------------------------------------------------

    def connect(self, address: bytes) -> PeerId:
        peer = peer_id(address)
        target = self._network.find(peer)
        if target is None or address != peer:
            raise Unreachable(address, "nobody has this address any more")
        if peer not in self._peers:
            self._peers.add(peer)
            target.greet(self.address)
        return peer

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._check(memory, runs)
        if target := self._reach(peer):
            self._counts["put_runs"] += len(runs)
            self._counts["put_bytes"] += runs.total_bytes()
            copy_runs(self._pool, target.pool, runs)

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        self._check(memory, runs)
        if source := self._reach(peer):
            self._counts["got_runs"] += len(runs)
            self._counts["got_bytes"] += runs.total_bytes()
            copy_runs(source.pool, self._pool, runs.reversed())

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        if self._reach(peer):
            self._commands.add(lambda: done() if self._reach(peer) else None)

    def send(self, peer: PeerId, data: bytes) -> None:
        target = self._reach(peer)
        self._counts["sent" if target else "dropped"] += 1
        if target:
            target.deliver(self.address, data)

    def alert(self, peer: PeerId, memory: bytes) -> None:
        """Nobody is told: the bytes are there at once."""

    def lane(self, peer: PeerId, memory: bytes) -> str:
        return LANE

    # --- from other transports' threads ---------------------------------------------------------

    @property
    def pool(self) -> Bytes:
        """What peers write to and read."""
        return self._pool

    def deliver(self, sender: PeerId, data: bytes) -> None:
        self._commands.offer(lambda: self._receive(sender, data))

    def greet(self, peer: PeerId) -> None:
        """Somebody connected to us: we hear of its end."""
        self._commands.offer(lambda: self._meet(peer))

    def peer_died(self, peer: PeerId) -> None:
        self._commands.offer(lambda: self._lose(peer))

    # --- the thread itself ----------------------------------------------------------------------

    def _check(self, memory: bytes, runs: Runs) -> None:
        ours, theirs = runs.reach()
        if ours > len(self._pool) or theirs > int.from_bytes(memory, "little"):
            raise ValueError(f"runs reach to bytes {ours} here and {theirs} there")

    def _reach(self, peer: PeerId) -> MemoryTransport | None:
        return self._network.reach(self.address, peer) if peer in self._peers else None

    def _receive(self, sender: PeerId, data: bytes) -> None:
        self._counts["received"] += 1
        self._handler.received(sender, data)

    def _meet(self, peer: PeerId) -> None:
        self._peers.add(peer)
        if self._network.find(peer) is None:
            self._lose(peer)

    def _lose(self, peer: PeerId) -> None:
        self._network.told(self.address, peer)
        if peer in self._peers:
            self._peers.discard(peer)
            self._counts["lost"] += 1
            self._handler.lost(peer)

    def round(self, at_most: int | None = None) -> float | None:
        """What the thread does whenever something happened; a test may do it in its place, with at
        most so many of the commands that wait."""
        self._commands.run(at_most)
        timeout_s = self._commands.ask(self._handler.turn)
        return 0.0 if self._commands else timeout_s

    def _run(self) -> None:
        timeout_s: float | None = None
        while not self._stopping:
            self._wakened.wait(timeout_s)
            self._wakened.clear()
            timeout_s = self.round()
        self._commands.close()
