"""The transport over UCX: RDMA, shared memory, the kernel's copy, or TCP, whichever it finds.

One thread owns the worker and every endpoint. It sleeps on the worker's event descriptor, and on
another one that `call` signals. ctypes callbacks only append to lists of the worker; the thread
reads them between two rounds of progress, so that no callback can raise or re-enter UCX.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import select
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from ._libucp import Context, Memory, Received, UcxError, Worker
from .commands import Commands
from .connection import MEMORY, Connection, Pool, join_address
from .layout import Runs
from .library import SETTINGS, UcxUnavailable, load
from .transport import (
    PEER_ID_BYTES,
    Handler,
    PeerId,
    TransportStatistics,
    Unreachable,
    peer_id,
)

log = logging.getLogger(__name__)
_MESSAGE, _HELLO, _WELCOME, _GOODBYE = 1, 2, 3, 4
_COMMANDS = 64
"""Commands before the thread looks after everything else."""
_ROUNDS = 64
"""Rounds of progress before the thread looks after everything else."""
_CONNECTING_S = 3.0
"""How long a peer may take to welcome us. UCX watches only over peers that have answered it: one
that dies before would never be missed."""
_LEAVING_S = 0.25
"""How long closing waits for peers to take our goodbye."""


class UcxTransport:
    """As `Transport` says.

    Args:
        library_path: a libucp.so.0; without it the installed package's, or the system's.
        settings: UCX configuration, names without ``UCX_``, on top of `library.SETTINGS`.

    Raises:
        UcxUnavailable: there is no library, or it cannot work here.
    """

    def __init__(
        self, library_path: str | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._library = load(library_path)
        try:
            self._context = Context(self._library, {**SETTINGS, **(settings or {})})
            self._worker = Worker(self._context, (_MESSAGE, _HELLO, _WELCOME, _GOODBYE))
        except UcxError as error:
            raise UcxUnavailable([f"{self._library.path} ({error})"]) from None
        self._context.hold()
        self.identity: PeerId = secrets.token_bytes(PEER_ID_BYTES)
        self.address = join_address(self.identity, self._worker.address)
        self.memory = MEMORY.pack(0, 0)
        self._pool: Pool | None = None
        """Keeps the memory while peers may write to it, even if nobody here looks at it."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._asleep = self._stopping = self._closed = False
        self._commands = Commands(self._ring)
        self._peers: dict[PeerId, Connection] = {}
        self._connecting: dict[PeerId, float] = {}
        """Until when each peer that has not answered yet may."""
        self._leaving: list[Connection] = []
        """Lost, and not told yet: something of them is still under way."""
        self._counts = dict.fromkeys(TransportStatistics.__struct_fields__[1:-1], 0)
        self._thread: threading.Thread | None = None
        self._poller = select.poll()
        for descriptor in (self._bell, self._worker.event_fd):
            self._poller.register(descriptor, select.POLLIN)

    # --- any thread -----------------------------------------------------------------------------

    @property
    def library(self) -> str:
        """Path and version of the library in use."""
        return f"{self._library.path} {'.'.join(map(str, self._library.version))}"

    def allocate(self, num_bytes: int) -> memoryview:
        """Raises `UcxUnavailable` where the machine has not so much memory to give."""
        if num_bytes > (installed := _installed_bytes()):
            # UCX would fill /dev/shm, page by page, before it gave up.
            raise UcxUnavailable([f"a pool of {num_bytes} bytes on a machine of {installed}"])
        try:
            block = Memory(self._context, num_bytes)
            self.memory = MEMORY.pack(block.address, num_bytes) + block.key()
        except UcxError as error:
            raise UcxUnavailable([f"a pool of {num_bytes} bytes ({error})"]) from None
        view = block.view()
        self._pool = Pool(block.address, np.frombuffer(view, np.uint8))
        return view

    def start(self, handler: Handler) -> None:
        self._handler = handler
        self._thread = threading.Thread(target=self._run, name="kv-ucx", daemon=True)
        self._thread.start()

    def call(self, command: Callable[[], None]) -> None:
        self._commands.add(command)

    def close(self) -> None:
        self._stopping = True
        self._ring(always=True)
        if self._thread is not None:
            self._thread.join()
        if not self._closed:
            self._closed = True
            self._pool = None
            self._commands.close()
            self._worker.close()
            self._context.release()
            os.close(self._bell)

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            peers=len(self._peers), **self._counts, failed=self._commands.failed
        )

    # --- the transport's thread -----------------------------------------------------------------

    def connect(self, address: bytes) -> PeerId:
        peer = peer_id(address)
        if peer not in self._peers:
            try:
                connection = Connection(self._worker, address)
            except UcxError as error:
                raise Unreachable(address, str(error)) from None
            self._peers[peer] = connection
            self._connecting[peer] = time.monotonic() + _CONNECTING_S
            self._say(connection, _HELLO, self.address)
        return peer

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        pool = self._checked(memory, runs)
        if found := self._peers.get(peer):
            self._counts["put_runs"] += len(runs)
            self._counts["put_bytes"] += runs.total_bytes()
            self._attempt(found, lambda: found.put(memory, pool, runs))

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        pool = self._checked(memory, runs)
        if found := self._peers.get(peer):
            self._counts["got_runs"] += len(runs)
            self._counts["got_bytes"] += runs.total_bytes()
            self._attempt(found, lambda: found.get(memory, pool, runs))

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        if found := self._peers.get(peer):
            self._attempt(found, lambda: found.flush(done))

    def send(self, peer: PeerId, data: bytes) -> None:
        found = self._peers.get(peer)
        self._counts["sent" if found else "dropped"] += 1
        if found:
            self._say(found, _MESSAGE, data)

    def lane(self, peer: PeerId, memory: bytes) -> str:
        found = self._peers.get(peer)
        return found.lane(memory) if found else "none"

    # --- inside the thread ----------------------------------------------------------------------

    def _checked(self, memory: bytes, runs: Runs) -> Pool:
        """Our pool, if the runs lie inside of both."""
        _, size = MEMORY.unpack_from(memory)
        ours, theirs = runs.reach()
        if self._pool is None or ours > len(self._pool.content) or theirs > size:
            raise ValueError(f"runs reach to bytes {ours} here and {theirs} of {size} there")
        return self._pool

    def _run(self) -> None:
        while not self._stopping:
            self._commands.run(_COMMANDS)
            busy = self._advance()
            timeout_s = self._commands.ask(self._handler.turn)
            busy |= self._notice()  # what the turn flushed may have landed at once
            if not busy and timeout_s != 0:
                self._sleep(timeout_s)
        self._commands.close()
        self._take_leave()

    def _advance(self) -> bool:
        """Let UCX work, and act on what came of it; whether anything happened."""
        rounds = 0
        while rounds < _ROUNDS and self._worker.progress():
            rounds += 1
        return bool(rounds) | self._notice() | self._deliver()

    def _notice(self) -> bool:
        """Failures, then flushes that landed, then losses that are complete."""
        happened = False
        while self._worker.failed:
            self._lose_endpoint(*self._worker.failed.popleft())
        for late in [peer for peer, by in self._connecting.items() if time.monotonic() > by]:
            log.warning("peer %s never answered", late.hex())
            self._lose(self._peers[late])
        for peer in list(self._peers.values()):
            peer.settled()
            while self._peers.get(peer.peer) is peer and (done := peer.landed()):
                self._guarded(done)
                happened = True
        for peer in [p for p in self._leaving if p.settled()]:
            self._leaving.remove(peer)
            self._counts["lost"] += 1
            self._guarded(functools.partial(self._handler.lost, peer.peer))
            happened = True
        return happened

    def _deliver(self) -> bool:
        """What peers said, after commands that may have caused it to be said."""
        messages = self._worker.messages
        if not messages:
            return False
        self._commands.run()
        while messages:
            self._receive(messages.popleft())
        return True

    def _receive(self, message: Received) -> None:
        if message.number == _MESSAGE:
            self._counts["received"] += 1
            self._guarded(lambda: self._handler.received(message.header, message.data))
        elif message.number == _HELLO:
            self._guarded(lambda: self._welcome(message.data))
        elif message.number == _WELCOME:
            self._connecting.pop(message.header, None)
        elif leaving := self._peers.get(message.header):
            self._lose(leaving)

    def _welcome(self, address: bytes) -> None:
        """Connect back, so that both sides notice when the other is gone."""
        try:
            peer = self.connect(address)
        except Unreachable as error:
            log.warning("a peer said hello and is gone: %s", error)
            return
        if found := self._peers.get(peer):
            self._say(found, _WELCOME, b"")

    def _guarded(self, call: Callable[[], object]) -> None:
        self._commands.guard(call)

    def _say(self, peer: Connection, number: int, data: bytes) -> None:
        self._attempt(peer, lambda: peer.send(number, self.identity, data))

    def _attempt(self, peer: Connection, act: Callable[[], None]) -> None:
        """A connection that cannot be written to is lost, whether or not UCX has told so."""
        try:
            act()
        except UcxError as error:
            log.warning("the connection to peer %s broke: %s", peer.peer.hex(), error)
            self._lose(peer)

    def _lose_endpoint(self, handle: int, status: int) -> None:
        for peer in list(self._peers.values()):
            if peer.endpoint.handle.value == handle:
                log.warning("peer %s is gone: UCX status %d", peer.peer.hex(), status)
                self._lose(peer)

    def _lose(self, peer: Connection) -> None:
        """From here on nothing is put or sent; told once nothing is under way."""
        if self._peers.pop(peer.peer, None) is not None:
            self._connecting.pop(peer.peer, None)
            peer.close()
            self._leaving.append(peer)

    def _sleep(self, timeout_s: float | None) -> None:
        """Until UCX, a command or the timeout needs us: at once where there is work already."""
        if not self._worker.arm():
            return
        self._asleep = True
        if not (self._commands or self._stopping):
            if self._connecting:
                timeout_s = min(_CONNECTING_S, _CONNECTING_S if timeout_s is None else timeout_s)
            self._poller.poll(None if timeout_s is None else timeout_s * 1000)
        self._asleep = False
        _drain(self._bell)

    def _ring(self, always: bool = False) -> None:
        if (self._asleep or always) and not self._closed:
            os.eventfd_write(self._bell, 1)

    def _take_leave(self) -> None:
        """Say goodbye, wait a moment for it to be taken, and close every endpoint."""
        for peer in list(self._peers.values()):
            self._say(peer, _GOODBYE, b"")
            self._attempt(peer, peer.flush_last)
        self._progress_until(lambda: all(peer.settled() for peer in self._peers.values()))
        for peer in list(self._peers.values()):
            self._lose(peer)
        self._progress_until(lambda: all(peer.settled() for peer in self._leaving))

    def _progress_until(self, settled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _LEAVING_S
        while not settled() and time.monotonic() < deadline:
            self._worker.progress()


def _installed_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _drain(descriptor: int) -> None:
    try:
        os.eventfd_read(descriptor)
    except BlockingIOError:
        return
