"""One endpoint of UCX: what has been written and sent through it, and when that is over."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable

from ._libucp import OK, Endpoint, RemoteKey, Request, Worker
from .lanes import copying_lane, shared_lane
from .layout import Runs
from .transport import PEER_ID_BYTES, PeerId, Unreachable, peer_id

_CHECKSUM = struct.Struct("<I")
MEMORY = struct.Struct("<QQ")
"""Address and length of a pool, before UCX's key to it."""


def join_address(identity: PeerId, worker_address: bytes) -> bytes:
    """What peers `split_address`."""
    return identity + _checksum(identity, worker_address) + worker_address


def split_address(address: bytes) -> bytes:
    """The worker's address in it.

    Raises:
        Unreachable: it was damaged. UCX aborts the process when it reads a damaged address, so
            that it must never see one.
    """
    head = PEER_ID_BYTES + _CHECKSUM.size
    checksum, worker_address = address[PEER_ID_BYTES:head], address[head:]
    if not worker_address or checksum != _checksum(peer_id(address), worker_address):
        raise Unreachable(address, "the address is damaged")
    return worker_address


def _checksum(identity: PeerId, worker_address: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(identity + worker_address))


class Connection:
    """Keys to the peer's memory, and what is under way. For the transport's thread only.

    Every method but `lane` raises `UcxError` where the connection is broken.
    """

    def __init__(self, worker: Worker, address: bytes) -> None:
        self.peer = peer_id(address)
        self.endpoint = Endpoint(worker, split_address(address))
        self._keys: dict[bytes, RemoteKey] = {}
        self._requests: deque[Request] = deque()
        """Messages, and in the end the closing and what it interrupted."""
        self._flushes: deque[tuple[Request | None, Callable[[], object]]] = deque()

    def close(self) -> None:
        """By force: what is under way ends with an error, `settled` says when."""
        for key in self._keys.values():
            key.close()
        self._keys.clear()
        self._keep(self.endpoint.close_by_force())
        for request, _ in self._flushes:
            self._keep(request)
        self._flushes.clear()

    def put(self, memory: bytes, base: int, runs: Runs) -> None:
        """Begin copying; offsets of ours count from address ``base``."""
        theirs, _ = MEMORY.unpack_from(memory)
        local, remote = (runs.local + base).tolist(), (runs.remote + theirs).tolist()
        self.endpoint.put(self._key(memory), local, remote, runs.num_bytes.tolist())

    def flush(self, done: Callable[[], object]) -> None:
        self._flushes.append((self.endpoint.flush(), done))

    def flush_last(self) -> None:
        """Like `flush`, for nobody to hear of: `settled` waits for it."""
        self._keep(self.endpoint.flush())

    def send(self, number: int, identity: bytes, data: bytes) -> None:
        self._keep(self.endpoint.send(number, identity, data))

    def lane(self, memory: bytes) -> str:
        theirs, _ = MEMORY.unpack_from(memory)
        if address := self._key(memory).mapped_at(theirs):
            with open("/proc/self/maps") as maps:
                return shared_lane(maps, address)
        return copying_lane(self.endpoint.transports())

    def _keep(self, request: Request | None) -> None:
        if request is not None:
            self._requests.append(request)

    def _key(self, memory: bytes) -> RemoteKey:
        if memory not in self._keys:
            self._keys[memory] = RemoteKey(self.endpoint, memory[MEMORY.size :])
        return self._keys[memory]

    def settled(self) -> bool:
        """Whether nothing of it is under way; frees what has ended."""
        while self._requests and self._requests[0].poll():
            self._requests.popleft()
        return not self._requests

    def landed(self) -> Callable[[], object] | None:
        """What to call for the next flush that has ended, if one has."""
        if not self._flushes:
            return None
        request, done = self._flushes[0]
        if request is not None and not request.poll():
            return None
        self._flushes.popleft()
        return done if request is None or request.status == OK else _nothing


def _nothing() -> None:
    """For a flush that failed: the peer's loss is told instead."""
