"""Which lane two processes of this machine get, and how fast it is: tried, not asked.

`python -m kvtransport.probe SETTINGS [LIBUCP]` is the other process: it offers a pool until its
input ends.
"""

from __future__ import annotations

import queue
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from .layout import Runs
from .transport import PeerId, TransportError, peer_id
from .ucx import UcxTransport

NUM_BYTES: Final = 16 << 20
NUM_PUTS: Final = 5
PATIENCE_S: Final = 10.0
ANOTHER_MACHINE: Final = {"TLS": "^sm"}
"""Settings under which two processes of one machine find what two machines would: no memory in
common, and no kernel that copies from one to the other."""


class Probed(Struct, frozen=True):
    library: str
    """Path and version."""
    lane: str
    gb_per_s: float
    """The best of a few puts of 16 MiB."""
    copy_gb_per_s: float
    """The best of as many plain copies by one thread, in between: what shared memory may reach."""


class ProbeFailed(TransportError):
    """The other process did not come up, or nothing arrived there."""


class _Offer(Struct, frozen=True):
    address: bytes
    memory: bytes


class _Owner:
    """Listens to nothing."""

    def received(self, peer: PeerId, data: bytes) -> None:
        pass

    def lost(self, peer: PeerId) -> None:
        pass

    def turn(self) -> float | None:
        return None


def probe(
    library_path: str | None = None,
    settings: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
) -> Probed:
    """Write a few times into the pool of a process started for it, which has the same settings.

    Raises:
        UcxUnavailable: there is no UCX to try.
        ProbeFailed: the two processes did not get together within ``patience_s`` for each step.
    """
    transport = UcxTransport(library_path, settings)
    transport.allocate(NUM_BYTES)
    transport.start(_Owner())
    given = msgspec.json.encode(settings or {}).decode()
    try:
        arguments = [given, *([library_path] if library_path else [])]
        return _with_peer(transport, arguments, patience_s)
    finally:
        transport.close()


def _with_peer(transport: UcxTransport, arguments: list[str], patience_s: float) -> Probed:
    command = [sys.executable, "-m", __name__, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        try:
            return _measured(transport, _offer_of(peer, patience_s), patience_s)
        finally:
            _end(peer, patience_s)


def _offer_of(peer: subprocess.Popen[bytes], patience_s: float) -> _Offer:
    assert peer.stdout is not None
    if not select.select([peer.stdout], [], [], patience_s)[0]:
        raise ProbeFailed(f"the other process said nothing within {patience_s:g} s")
    line = peer.stdout.readline()
    if not line:
        raise ProbeFailed(f"the other process ended with code {peer.wait()}")
    return msgspec.json.decode(line, type=_Offer)


def _end(peer: subprocess.Popen[bytes], patience_s: float) -> None:
    """In good order, or by force where that takes too long."""
    assert peer.stdin is not None
    peer.stdin.close()
    try:
        peer.wait(patience_s)
    except subprocess.TimeoutExpired:
        peer.kill()


def _measured(transport: UcxTransport, offer: _Offer, patience_s: float) -> Probed:
    peer, runs = peer_id(offer.address), Runs(*(np.array([n], np.int64) for n in (0, 0, NUM_BYTES)))

    def connect(done: Callable[[str], None]) -> None:
        transport.connect(offer.address)
        done("")

    def put(done: Callable[[str], None]) -> None:
        transport.put(peer, offer.memory, runs)
        transport.flush(peer, lambda: done(""))

    def lane(done: Callable[[str], None]) -> None:
        done(transport.lane(peer, offer.memory))

    def wait_for(work: Callable[[Callable[[str], None]], None]) -> str:
        return _on_thread(transport, work, patience_s)

    wait_for(connect)
    source, target = np.ones(NUM_BYTES, np.uint8), np.ones(NUM_BYTES, np.uint8)
    puts: list[float] = []
    copies: list[float] = []
    for _ in range(NUM_PUTS):
        puts.append(_seconds(lambda: wait_for(put)))
        copies.append(_seconds(lambda: np.copyto(target, source)))
    found = wait_for(lane)
    put_s, copy_s = min(puts), min(copies)
    return Probed(transport.library, found, NUM_BYTES / put_s / 1e9, NUM_BYTES / copy_s / 1e9)


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _on_thread(
    transport: UcxTransport, work: Callable[[Callable[[str], None]], None], patience_s: float
) -> str:
    """What ``work``, on the transport's thread, says when it is done."""
    told: queue.SimpleQueue[str | Exception] = queue.SimpleQueue()

    def begin() -> None:
        try:
            work(told.put)
        except TransportError as error:
            told.put(error)

    transport.call(begin)
    try:
        answer = told.get(timeout=patience_s)
    except queue.Empty:
        raise ProbeFailed(f"nothing arrived within {patience_s:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _offer(settings: str, library_path: str | None = None) -> None:
    transport = UcxTransport(library_path, msgspec.json.decode(settings, type=dict[str, str]))
    transport.allocate(NUM_BYTES)
    transport.start(_Owner())
    offer = _Offer(transport.address, transport.memory)
    sys.stdout.buffer.write(msgspec.json.encode(offer) + b"\n")
    sys.stdout.buffer.flush()
    sys.stdin.buffer.read()
    transport.close()


if __name__ == "__main__":
    _offer(*sys.argv[1:])
