"""KV writes from process to process, against one thread's plain copy of the same memory."""

from __future__ import annotations

import ctypes
import multiprocessing
import queue
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Final, TypeVar

import numpy as np
from msgspec import Struct

from kvtransport.layout import Runs
from kvtransport.transport import PeerId
from kvtransport.ucx import UcxTransport

from .report import AtLeast, Figure, Result

_Answer = TypeVar("_Answer")
MIB: Final = 2**20
KIB: Final = 2**10
POOL_BYTES: Final = 256 * MIB
REPEATS: Final = 7
NOTICES: Final = 1000
IDLE_S: Final = 2.0
PATIENCE_S: Final = 30.0


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
TARGETS: Final = {
    "put_256m_64k_vs_copy": AtLeast(0.8),
    "put_16m_16k_vs_copy": AtLeast(0.65),
    "put_16m_vs_copy": AtLeast(0.6),
}
"""What two processes on two busy cores reached; an idle machine does better."""


def run() -> Result:
    receiver = Receiver()
    sender = Sender(receiver)
    try:
        ratios: dict[str, float] = {}
        figures: dict[str, Figure] = {"lane": sender.lane()}
        for case in CASES:
            put_s, copy_s = measure(sender, case)
            ratios[f"put_{case.name}_vs_copy"] = copy_s / put_s
            figures[f"put_{case.name}_gb_per_s"] = case.num_bytes / put_s / 1e9
            figures[f"copy_{case.name}_gb_per_s"] = case.num_bytes / copy_s / 1e9
        figures["notice_us"] = sender.notice_s() * 1e6
        figures["idle_cpu_percent_sender"], figures["idle_cpu_percent_receiver"] = idle(receiver)
    finally:
        sender.close()
        receiver.close()
    chosen = {name: ratios[name] for name in TARGETS}
    others = {name: ratio for name, ratio in ratios.items() if name not in TARGETS}
    return Result("transport", chosen, {**figures, **others}, dict(TARGETS))


def measure(sender: Sender, case: Case) -> tuple[float, float]:
    """Median seconds of a put with its acknowledgement, and of a copy; one after the other, so
    that neighbours disturb both alike."""
    runs = scattered(case)
    copy = copier(runs)
    puts: list[float] = []
    copies: list[float] = []
    for _ in range(REPEATS + 1):
        puts.append(timed(lambda: sender.put(runs)))
        copies.append(timed(copy))
    return statistics.median(puts[1:]), statistics.median(copies[1:])


def scattered(case: Case) -> Runs:
    random = np.random.default_rng(case.num_bytes + case.run_bytes)
    count = case.num_bytes // case.run_bytes
    local, remote = (random.permutation(count) * case.run_bytes for _ in range(2))
    return Runs(local, remote, np.full(count, case.run_bytes, np.int64))


def copier(runs: Runs) -> Callable[[], None]:
    """A plain copy of the same runs within this process, as tight as Python can have it."""
    ours, theirs = (np.ones(POOL_BYTES, np.uint8) for _ in range(2))
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


def idle(receiver: Receiver) -> tuple[float, float]:
    """Percent of a core that each process uses while it is connected and nothing happens."""
    theirs, ours = receiver.cpu_s(), time.process_time()
    time.sleep(IDLE_S)
    ours_s, theirs_s = time.process_time() - ours, receiver.cpu_s() - theirs
    return 100 * ours_s / IDLE_S, 100 * theirs_s / IDLE_S


class Sender:
    """Writes the receiver's memory, and waits for its word that it has been told."""

    def __init__(self, receiver: Receiver) -> None:
        self._transport = UcxTransport()
        self._transport.allocate(POOL_BYTES)[:] = b"\x01" * POOL_BYTES
        self._answers: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._memory = receiver.memory
        self._rounds_left = 0
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
        return None

    def put(self, runs: Runs) -> None:
        def begin() -> None:
            self._transport.put(self._peer, self._memory, runs)
            self._transport.flush(self._peer, landed)

        def landed() -> None:
            self._transport.send(self._peer, b"complete")

        self._transport.call(begin)
        self._answers.get(timeout=PATIENCE_S)

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

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_receive, args=(theirs,))
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


def _receive(pipe: Connection) -> None:
    transport = UcxTransport()
    transport.allocate(POOL_BYTES)[:] = b"\0" * POOL_BYTES
    transport.start(_Echo(transport))
    pipe.send((transport.address, transport.memory))
    try:
        while True:
            pipe.recv()
            pipe.send(time.process_time())
    except (EOFError, ConnectionResetError):
        transport.close()
