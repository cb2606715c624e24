"""One endpoint of UCX: what has been written and sent through it, and when that is over."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from ._libucp import Endpoint, RemoteKey, Request, Worker
from .lanes import copying_lane, shared_lane
from .layout import Bytes, Runs
from .mapped import copy_runs
from .transport import PEER_ID_BYTES, PeerId, Unreachable, peer_id

_CHECKSUM = struct.Struct("<I")
MEMORY = struct.Struct("<QQ")
"""Address and length of a pool, before UCX's key to it."""


def unpack_memory(memory: bytes) -> tuple[int, int]:
    """Address and length of a peer's pool.

    Raises:
        ValueError: it says neither.
    """
    if len(memory) < MEMORY.size:
        raise ValueError(f"{len(memory)} bytes say nothing of a pool")
    address, num_bytes = MEMORY.unpack_from(memory)
    return address, num_bytes


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


class Pool(Struct, frozen=True, eq=False):
    """Our own memory that peers reach, and how UCX knows it."""

    address: int
    content: Bytes


class _Reach(Struct, frozen=True, eq=False):
    """A peer's pool as one endpoint reaches it."""

    key: RemoteKey
    address: int
    mapped: Bytes | None
    """The pool itself, where both sides share the memory. Void once the key is closed."""

    def columns(self, ours: Pool, runs: Runs) -> tuple[list[int], list[int], list[int]]:
        """Addresses here, addresses there, sizes."""
        local, remote = runs.local + ours.address, runs.remote + self.address
        return local.tolist(), remote.tolist(), runs.num_bytes.tolist()


class Connection:
    """Keys to the peer's memory, and what is under way. For the transport's thread only.

    Every method raises `UcxError` where the connection is broken.
    """

    def __init__(self, worker: Worker, address: bytes) -> None:
        self.peer = peer_id(address)
        self.endpoint = Endpoint(worker, split_address(address))
        self._reaches: dict[bytes, _Reach] = {}
        self._lanes: dict[bytes, str] = {}
        self._requests: deque[Request] = deque()
        """Messages, and in the end the closing and what it interrupted."""
        self._flushes: deque[tuple[Request | None, Callable[[], object]]] = deque()

    def close(self) -> None:
        """By force: what is under way ends with an error, `settled` says when."""
        for reach in self._reaches.values():
            reach.key.close()
        self._reaches.clear()
        self._keep(self.endpoint.close_by_force())
        for request, _ in self._flushes:
            self._keep(request)
        self._flushes.clear()

    def put(self, memory: bytes, ours: Pool, runs: Runs) -> None:
        """Begin copying from our pool into theirs; done at once where theirs is mapped here."""
        reach = self._reach(memory)
        if reach.mapped is None:
            self.endpoint.put(reach.key, *reach.columns(ours, runs))
        else:
            copy_runs(ours.content, reach.mapped, runs)

    def get(self, memory: bytes, ours: Pool, runs: Runs) -> None:
        """Begin copying from their pool into ours; done at once where theirs is mapped here."""
        reach = self._reach(memory)
        if reach.mapped is None:
            self.endpoint.get(reach.key, *reach.columns(ours, runs))
        else:
            copy_runs(reach.mapped, ours.content, runs.reversed())

    def flush(self, done: Callable[[], object]) -> None:
        self._flushes.append((self.endpoint.flush(), done))

    def flush_last(self) -> None:
        """Like `flush`, for nobody to hear of: `settled` waits for it."""
        self._keep(self.endpoint.flush())

    def send(self, number: int, identity: bytes, data: bytes) -> None:
        self._keep(self.endpoint.send(number, identity, data))

    def lane(self, memory: bytes) -> str:
        if memory not in self._lanes:  # it takes longer than a small transfer
            self._lanes[memory] = self._lane(memory)
        return self._lanes[memory]

    def _lane(self, memory: bytes) -> str:
        reach = self._reach(memory)
        if address := reach.key.mapped_at(reach.address):
            with open("/proc/self/maps") as maps:
                return shared_lane(maps, address)
        return copying_lane(self.endpoint.transports())

    def is_mapped(self, memory: bytes) -> bool:
        """Whether `put` and `get` copy by themselves, and at once."""
        return self._reach(memory).mapped is not None

    def _keep(self, request: Request | None) -> None:
        if request is not None:
            self._requests.append(request)

    def _reach(self, memory: bytes) -> _Reach:
        if memory not in self._reaches:
            address, num_bytes = unpack_memory(memory)
            key = RemoteKey(self.endpoint, memory[MEMORY.size :])
            view = key.view(address, num_bytes)
            mapped = None if view is None else np.frombuffer(view, np.uint8)
            self._reaches[memory] = _Reach(key, address, mapped)
        return self._reaches[memory]

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way, or has ended and was not noticed."""
        return bool(self._flushes or self._requests)

    def settled(self) -> bool:
        """Whether nothing of it is under way; frees what has ended."""
        while self._requests and self._requests[0].poll():
            self._requests.popleft()
        return not self._requests

    def landed(self) -> Callable[[], object] | None:
        """What to call for the next flush that has ended, if one has.

        Raises `UcxError` where the flush failed: nobody knows what has landed.
        """
        if not self._flushes:
            return None
        request, done = self._flushes[0]
        if request is not None and not request.poll():
            return None
        self._flushes.popleft()
        if request is not None:
            request.check()
        return done
