"""A transport that a test drives step by step, here or in a process of its own."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from kvtransport.layout import Runs
from kvtransport.memory import MemoryTransport
from kvtransport.transport import PeerId, Transport
from kvtransport.ucx import UcxTransport

PATIENCE_S = 20.0
"""For what takes milliseconds: other processes share the machine."""
_Answer = TypeVar("_Answer")
Piece = tuple[int, int, int]
"""(our offset, their offset, number of bytes)."""


def runs_of(pieces: list[Piece]) -> Runs:
    table = np.array(pieces, np.int64).reshape(-1, 3)
    return Runs(table[:, 0], table[:, 1], table[:, 2])


class Site(Protocol):
    """Every call waits until what it asks for has happened."""

    def address(self) -> bytes: ...
    def memory(self) -> bytes: ...
    def fill(self, offset: int, data: bytes) -> None: ...
    def read(self, offset: int, num_bytes: int) -> bytes: ...
    def look_away(self) -> None: ...
    def connect(self, address: bytes) -> PeerId: ...
    def put(self, peer: PeerId, memory: bytes, pieces: list[Piece]) -> None: ...
    def get(self, peer: PeerId, memory: bytes, pieces: list[Piece]) -> None: ...
    def flush(self, peer: PeerId) -> bool: ...
    def send(self, peer: PeerId, data: bytes) -> None: ...
    def alert(self, peer: PeerId, memory: bytes) -> None: ...
    def message(self) -> tuple[PeerId, bytes]: ...
    def loss(self) -> PeerId: ...
    def lane(self, peer: PeerId, memory: bytes) -> str: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def kill(self) -> None: ...
    def close(self) -> None: ...


class LocalSite:
    def __init__(self, transport: Transport, num_bytes: int) -> None:
        self.transport = transport
        self.pool = transport.allocate(num_bytes)
        self._messages: queue.Queue[tuple[PeerId, bytes]] = queue.Queue()
        self._losses: queue.Queue[PeerId] = queue.Queue()
        self._flushes: dict[PeerId, list[queue.Queue[bool]]] = {}
        self.told: list[str] = []
        """What the handler heard, in order."""
        self._thawed = threading.Event()
        transport.start(self)

    # --- Handler

    def received(self, peer: PeerId, data: bytes) -> None:
        self.told.append("received")
        self._messages.put((peer, data))

    def lost(self, peer: PeerId) -> None:
        self.told.append("lost")
        for waiting in self._flushes.pop(peer, []):
            waiting.put(False)
        self._losses.put(peer)

    def turn(self) -> float | None:
        return None

    # --- Site

    def address(self) -> bytes:
        return self.transport.address

    def memory(self) -> bytes:
        return self.transport.memory

    def fill(self, offset: int, data: bytes) -> None:
        self.pool[offset : offset + len(data)] = data

    def read(self, offset: int, num_bytes: int) -> bytes:
        return bytes(self.pool[offset : offset + num_bytes])

    def look_away(self) -> None:
        """Let go of the only view of the pool that the test has."""
        self.pool = memoryview(bytearray())

    def connect(self, address: bytes) -> PeerId:
        return self.do(lambda: self.transport.connect(address))

    def put(self, peer: PeerId, memory: bytes, pieces: list[Piece]) -> None:
        self.do(lambda: self.transport.put(peer, memory, runs_of(pieces)))

    def get(self, peer: PeerId, memory: bytes, pieces: list[Piece]) -> None:
        self.do(lambda: self.transport.get(peer, memory, runs_of(pieces)))

    def flush(self, peer: PeerId) -> bool:
        """Whether everything landed; False where the peer was lost before."""
        landed: queue.Queue[bool] = queue.Queue()

        def begin() -> None:
            self._flushes.setdefault(peer, []).append(landed)
            self.transport.flush(peer, lambda: landed.put(True))

        self.do(begin)
        return landed.get(timeout=PATIENCE_S)

    def send(self, peer: PeerId, data: bytes) -> None:
        self.do(lambda: self.transport.send(peer, data))

    def alert(self, peer: PeerId, memory: bytes) -> None:
        self.do(lambda: self.transport.alert(peer, memory))

    def message(self) -> tuple[PeerId, bytes]:
        return self._messages.get(timeout=PATIENCE_S)

    def loss(self) -> PeerId:
        return self._losses.get(timeout=PATIENCE_S)

    def lane(self, peer: PeerId, memory: bytes) -> str:
        return self.do(lambda: self.transport.lane(peer, memory))

    def freeze(self) -> None:
        """Its thread does nothing from now on until `thaw`, as if it were stopped with a signal."""
        self._thawed.clear()
        frozen = threading.Event()

        def stand_still() -> None:
            frozen.set()
            self._thawed.wait()

        self.transport.call(stand_still)
        assert frozen.wait(PATIENCE_S)

    def thaw(self) -> None:
        self._thawed.set()

    def kill(self) -> None:
        assert isinstance(self.transport, MemoryTransport), "only a process can be killed"
        self.transport.die()

    def close(self) -> None:
        self.thaw()
        self.transport.close()

    def do(self, call: Callable[[], _Answer]) -> _Answer:
        """On the transport's thread."""
        answer: queue.Queue[_Answer | Exception] = queue.Queue()

        def run() -> None:
            try:
                answer.put(call())
            except Exception as error:
                answer.put(error)

        self.transport.call(run)
        result = answer.get(timeout=PATIENCE_S)
        if isinstance(result, Exception):
            raise result
        return result


class Host:
    """A process that holds one site at a time, over UCX. Calls go through a pipe."""

    idle: ClassVar[list[Host]] = []
    """Starting a process takes longer than a test: hosts are used again."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()

    def call(self, name: str, *arguments: Any) -> Any:
        self._pipe.send((name, arguments))
        if not self._pipe.poll(2 * PATIENCE_S):
            raise TimeoutError(f"{name} did not return")
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self) -> None:
        """As with ``kill -9``; reaped, since a zombie counts as alive."""
        self.process.kill()
        self.process.join()
        self._pipe.close()

    def stop(self) -> None:
        self._pipe.close()
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError("the host's process did not end by itself")


class RemoteSite:
    """A site in a process of its own."""

    def __init__(self, num_bytes: int, settings: dict[str, str]) -> None:
        self._host = Host.idle.pop() if Host.idle else Host()
        self._host.call("make", num_bytes, settings)
        self._open = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self._host.call(name, *arguments)

    def kill(self) -> None:
        self._open = False
        self._host.kill()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._host.call("close")
            Host.idle.append(self._host)


def _serve(pipe: Connection) -> None:
    site: LocalSite | None = None
    try:
        while True:
            name, arguments = pipe.recv()
            try:
                if name == "make":
                    num_bytes, settings = arguments
                    site = LocalSite(UcxTransport(settings=settings), num_bytes)
                    pipe.send(None)
                else:
                    pipe.send(getattr(site, name)(*arguments))
            except Exception as error:
                pipe.send(error)
    except (EOFError, ConnectionResetError):
        if site is not None:
            site.close()
