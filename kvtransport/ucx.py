"""The transport over UCX: RDMA, shared memory, the kernel's copy, or TCP, whichever it finds.

One thread owns the worker and every endpoint. It sleeps on the worker's event descriptor, and on
another one that `call` signals. ctypes callbacks only append to lists of the worker; the thread
reads them between two rounds of progress, so that no callback can raise or re-enter UCX.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from ._libucp import Context, Memory, Received, UcxError, Worker
from .alarm import Alarm
from .commands import Commands
from .connection import MEMORY, Connection, Pool, unpack_memory
from .layout import Runs
from .library import SETTINGS, UcxUnavailable, load
from .peers import ALERT, GOODBYE, HELLO, MESSAGE, WELCOME, Peers
from .transport import PEER_ID_BYTES, Handler, PeerId, TransportStatistics

log = logging.getLogger(__name__)
_COMMANDS = 64
"""Commands before the thread looks after everything else."""
_ROUNDS = 64
"""Rounds of progress before the thread looks after everything else."""
LINGER_S = 100e-6
"""How long the thread looks out for an answer to what it sent, before it sleeps."""
_MOVING_S = 50e-6
"""How long after UCX did something: bytes on a socket come in spurts, a few microseconds apart."""
_ALERTED_S = 500e-6
"""How long it looks out for what a peer said is about to come."""


class UcxTransport:
    """As `Transport` says.

    Args:
        library_path: a libucp.so.0; without it the installed package's, or the system's.
        settings: UCX configuration, names without ``UCX_``, on top of `library.SETTINGS`.
        linger_s: how long the thread looks out for an answer before it sleeps.

    Raises:
        UcxUnavailable: there is no library, or it cannot work here.
    """

    def __init__(
        self,
        library_path: str | None = None,
        settings: Mapping[str, str] | None = None,
        linger_s: float = LINGER_S,
    ) -> None:
        self._library = load(library_path)
        try:
            self._context = Context(self._library, {**SETTINGS, **(settings or {})})
            self._worker = Worker(self._context, (MESSAGE, HELLO, WELCOME, GOODBYE, ALERT))
        except UcxError as error:
            raise UcxUnavailable([f"{self._library.path} ({error})"]) from None
        self._context.hold()
        self._linger_s = linger_s
        self._stopping = self._closed = False
        self._pool: Pool | None = None
        """Keeps the memory while peers may write to it, even if nobody here looks at it."""
        self.memory = MEMORY.pack(0, 0)
        self._commands = Commands(lambda: self._alarm.ring())
        self._alarm = Alarm(self._worker, time.monotonic, self._is_wanted)
        identity = secrets.token_bytes(PEER_ID_BYTES)
        self._peers = Peers(self._worker, identity, self._commands, self._tell_lost)
        self.address = self._peers.address
        self._counts = dict.fromkeys(TransportStatistics.__struct_fields__[2:-1], 0)
        self._thread: threading.Thread | None = None

    # --- any thread -----------------------------------------------------------------------------

    @property
    def library(self) -> str:
        """Path and version of the library in use."""
        return f"{self._library.path} {self.version}"

    @property
    def version(self) -> str:
        """Of the library: one that another engine's should be equal to."""
        return ".".join(map(str, self._library.version))

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
        self._alarm.ring()
        if self._thread is not None:
            self._thread.join()
        if not self._closed:
            self._closed = True
            self._pool = None
            self._commands.close()
            self._worker.close()
            self._context.release()
            self._alarm.close()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            peers=len(self._peers),
            lost=self._peers.num_lost,
            **self._counts,
            failed=self._commands.failed,
        )

    # --- the transport's thread -----------------------------------------------------------------

    def connect(self, address: bytes) -> PeerId:
        return self._peers.connect(address)

    def put(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        pool = self._checked(memory, runs)
        if found := self._peers.find(peer):
            self._counts["put_runs"] += len(runs)
            self._counts["put_bytes"] += runs.total_bytes()
            self._peers.attempt(found, lambda: found.put(memory, pool, runs))

    def get(self, peer: PeerId, memory: bytes, runs: Runs) -> None:
        pool = self._checked(memory, runs)
        if found := self._peers.find(peer):
            self._counts["got_runs"] += len(runs)
            self._counts["got_bytes"] += runs.total_bytes()
            self._peers.attempt(found, lambda: found.get(memory, pool, runs))

    def flush(self, peer: PeerId, done: Callable[[], None]) -> None:
        if found := self._peers.find(peer):
            self._peers.attempt(found, lambda: found.flush(done))

    def send(self, peer: PeerId, data: bytes) -> None:
        found = self._peers.find(peer)
        self._counts["sent" if found else "dropped"] += 1
        if found:
            self._peers.tell(found, data)
            self._alarm.expect(self._linger_s)

    def alert(self, peer: PeerId, memory: bytes) -> None:
        """Only where we copy by ourselves: over any other lane the copy takes too long for it."""
        if found := self._peers.find(peer):
            self._peers.attempt(found, lambda: self._alert(found, memory))

    def lane(self, peer: PeerId, memory: bytes) -> str:
        found = self._peers.find(peer)
        try:
            return found.lane(memory) if found else "none"
        except (UcxError, ValueError) as error:  # only a name: whoever asks has an end to tell
            log.warning("no lane to a memory of peer %s: %s", peer.hex(), error)
            return "none"

    # --- inside the thread ----------------------------------------------------------------------

    def _alert(self, found: Connection, memory: bytes) -> None:
        if found.is_mapped(memory):
            self._peers.say(found, ALERT)

    def _checked(self, memory: bytes, runs: Runs) -> Pool:
        """Our pool, if the runs lie inside of both."""
        _, size = unpack_memory(memory)
        ours, theirs = runs.reach()
        if self._pool is None or ours > len(self._pool.content) or theirs > size:
            raise ValueError(f"runs reach to bytes {ours} here and {theirs} of {size} there")
        return self._pool

    def _run(self) -> None:
        while not self._stopping:
            self._commands.run(_COMMANDS)
            busy = self._advance()
            timeout_s = self._commands.ask(self._handler.turn)
            busy |= self._peers.notice()  # what the turn flushed may have landed at once
            if not busy and timeout_s != 0:
                self._alarm.sleep(self._peers.bound(timeout_s))
        self._commands.close()
        self._peers.take_leave()

    def _advance(self) -> bool:
        """Let UCX work, and act on what came of it; whether anything happened."""
        rounds = 0
        while rounds < _ROUNDS and self._worker.progress():
            rounds += 1
        if rounds:
            self._alarm.expect(min(_MOVING_S, self._linger_s))
        happened = bool(rounds) | self._peers.notice() | self._deliver()
        if rounds < _ROUNDS:  # nothing is left that has come
            self._peers.lose_late()
        return happened

    def _deliver(self) -> bool:
        """What peers said, after commands that may have caused it to be said. It waits where the
        loss of an earlier connection with that peer is still to be told: by what is said on a new
        one, the handler would begin what that loss then ends."""
        messages = self._worker.messages
        if not messages:
            return False
        self._commands.run()
        early: list[Received] = []
        num_messages = len(messages)
        while messages:
            message = messages.popleft()
            if self._peers.is_leaving(message.header):
                early.append(message)
            else:
                self._receive(message)
        messages.extend(early)
        return len(early) < num_messages

    def _receive(self, message: Received) -> None:
        if message.number == MESSAGE:
            self._counts["received"] += 1
            self._commands.guard(lambda: self._handler.received(message.header, message.data))
        elif message.number == ALERT:
            self._alarm.expect(_ALERTED_S)
        else:
            self._peers.heard(message)

    def _tell_lost(self, peer: PeerId) -> None:
        self._handler.lost(peer)

    def _is_wanted(self) -> bool:
        return bool(self._commands) or self._stopping


def _installed_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
