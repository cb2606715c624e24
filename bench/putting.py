"""Two processes for `bench.transport`: one that writes the other's memory, and the plain copy."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final, TypeAlias, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from kvtransport.layout import Runs
from kvtransport.outbox import Outbox
from kvtransport.transport import PeerId
from kvtransport.ucx import LINGER_S, UcxTransport

Memory: TypeAlias = NDArray[np.uint8]
_Answer = TypeVar("_Answer")
MIB: Final = 2**20
KIB: Final = 2**10
POOL_BYTES: Final = 256 * MIB
NOTICES: Final = 1000
PATIENCE_S: Final = 30.0


class Ends(Struct, frozen=True):
    """What both processes have in common."""

    settings: dict[str, str] = {}
    linger_s: float = LINGER_S
    pool_bytes: int = POOL_BYTES

    def open(self, fill: int) -> UcxTransport:
        transport = UcxTransport(settings=self.settings, linger_s=self.linger_s)
        transport.allocate(self.pool_bytes)[:] = bytes([fill]) * self.pool_bytes
        return transport


class Case(Struct, frozen=True):
    """So many bytes in runs of equal length, scattered on both sides where there are several."""

    name: str
    num_bytes: int
    run_bytes: int


CASES: Final = tuple(
    Case(f"{size}m" + (f"_{run}k" if run else ""), size * MIB, run * KIB or size * MIB)
    for size in (1, 16, 256)
    for run in (0, 64, 16)
)


def scattered(case: Case) -> Runs:
    random = np.random.default_rng(case.num_bytes + case.run_bytes)
    count = case.num_bytes // case.run_bytes
    local, remote = (random.permutation(count) * case.run_bytes for _ in range(2))
    return Runs(local, remote, np.full(count, case.run_bytes, np.int64))


def private_memory() -> Memory:
    """Which the kernel gives in pages of 2 MiB where it can."""
    return np.ones(POOL_BYTES, np.uint8)


def shared_memory() -> Memory:
    """Of the kind that two processes can have in common, like the pools: in pages of 4 KiB."""
    memory = np.frombuffer(mmap.mmap(-1, POOL_BYTES), np.uint8)
    memory[:] = 1
    return memory


def copier(runs: Runs, allocate: Callable[[], Memory]) -> Callable[[], None]:
    """A plain copy of the same runs within this process, as tight as Python can have it."""
    ours, theirs = allocate(), allocate()
    sources = (runs.local + ours.ctypes.data).tolist()
    targets = (runs.remote + theirs.ctypes.data).tolist()
    sizes = runs.num_bytes.tolist()
    kept = (ours, theirs)

    def copy(_: object = kept) -> None:
        for target, source, size in zip(targets, sources, sizes, strict=True):
            ctypes.memmove(target, source, size)

    return copy


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Put(Struct, frozen=True):
    """Seconds of one put until the receiver's word that it is complete."""

    seconds: float
    """On the transport's thread, which is where an engine's puts are timed too."""
    caller_s: float
    """For the thread that asked and waited, hand-over there and back included."""


class Sender:
    """Writes the receiver's memory through an outbox, as a courier does, and waits for its word
    that it has been told."""

    def __init__(self, receiver: Receiver, ends: Ends) -> None:
        self._transport = ends.open(fill=1)
        self._outbox = Outbox(self._transport, self, time.perf_counter)
        self._answers: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._memory = receiver.memory
        self._rounds_left = 0
        self._endless: Runs | None = None
        self._transport.start(self)
        self._peer = self._ask(lambda: self._transport.connect(receiver.address))
        self._transport.call(lambda: self._transport.send(self._peer, b"ready?"))
        self._answers.get(timeout=PATIENCE_S)

    def received(self, peer: PeerId, data: bytes) -> None:
        if self._rounds_left:
            self._rounds_left -= 1
            self._transport.send(peer, b"12345678")
        else:
            self._answers.put(time.perf_counter())

    def lost(self, peer: PeerId) -> None:
        """The benchmark then ends by its patience."""

    def turn(self) -> float | None:
        return self._outbox.turn()

    def issued(self, transfer: int, seconds: float) -> None:
        """Nobody counts here."""

    def stuck(self, transfer: int, why: str) -> None:
        """The benchmark then ends by its patience."""

    @contextmanager
    def putting(self, runs: Runs) -> Iterator[None]:
        """Put these runs again and again while the block runs."""

        def again() -> None:
            if self._endless is not None:
                self._write(self._endless, again)

        def begin() -> None:
            self._endless = runs
            again()

        self._transport.call(begin)
        yield
        self._endless = None

    def put(self, runs: Runs) -> Put:
        begun: list[float] = []

        def begin() -> None:
            begun.append(time.perf_counter())
            self._write(runs, landed)

        def landed() -> None:
            self._transport.send(self._peer, b"complete")

        asked = time.perf_counter()
        self._transport.call(begin)
        answered = self._answers.get(timeout=PATIENCE_S)
        return Put(answered - begun[0], time.perf_counter() - asked)

    def _write(self, runs: Runs, landed: Callable[[], None]) -> None:
        self._outbox.put(1, self._peer, self._memory, runs)
        self._outbox.flush(1, self._peer, landed)

    def notice_s(self) -> float:
        """Half of a round trip of eight bytes between the two transports' threads."""
        self._rounds_left = NOTICES - 1
        begun = time.perf_counter()
        self._transport.call(lambda: self._transport.send(self._peer, b"12345678"))
        return (self._answers.get(timeout=PATIENCE_S) - begun) / NOTICES / 2

    def lane(self) -> str:
        return self._ask(lambda: self._transport.lane(self._peer, self._memory))

    def close(self) -> None:
        self._transport.close()

    def _ask(self, question: Callable[[], _Answer]) -> _Answer:
        answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._transport.call(lambda: answers.put(question()))
        return answers.get(timeout=PATIENCE_S)


class Receiver:
    """A process whose transport answers every message, from its own thread."""

    def __init__(self, ends: Ends) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_receive, args=(theirs, ends))
        self._process.start()
        theirs.close()
        self.address, self.memory = self._pipe.recv()

    def cpu_s(self) -> float:
        self._pipe.send(None)
        seconds: float = self._pipe.recv()
        return seconds

    def close(self) -> None:
        self._pipe.close()
        self._process.join(PATIENCE_S)


class _Echo:
    def __init__(self, transport: UcxTransport) -> None:
        self._transport = transport

    def received(self, peer: PeerId, data: bytes) -> None:
        self._transport.send(peer, data)

    def lost(self, peer: PeerId) -> None:
        """The sender has left."""

    def turn(self) -> float | None:
        return None


def _receive(pipe: Connection, ends: Ends) -> None:
    transport = ends.open(fill=0)
    transport.start(_Echo(transport))
    pipe.send((transport.address, transport.memory))
    try:
        while True:
            pipe.recv()
            pipe.send(time.process_time())
    except (EOFError, ConnectionResetError):
        transport.close()
