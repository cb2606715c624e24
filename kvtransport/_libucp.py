"""UCX's C API as far as we use it: the one file that knows ctypes.

Declarations follow ``ucp/api/ucp.h``; structs only ever grow at their end between 1.19 and 1.22,
and every struct carries a mask of the fields that are set. Nothing here is safe for two threads,
except `Library`: a worker belongs to one thread. ``ucs_status_t`` is a packed enum: one byte.
"""

from __future__ import annotations

import ctypes as c
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OK, IN_PROGRESS, BUSY = 0, 1, -15
_Status = c.c_int8
_FIRST_ERROR_POINTER = 2**64 - 100
_API_VERSION = (1, 19)
_FEATURES = 1 << 1 | 1 << 4 | 1 << 6  # remote memory access, wake-up, active messages
_PEER_ERRORS = 1
_OP_FLAGS = 1 << 4
_CLOSE_BY_FORCE, _SEND_EAGER = 1, 1 << 1
_RENDEZVOUS = 1 << 17
_ALLOCATE = 1 << 1

_OnError = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, _Status)
_OnMessage = c.CFUNCTYPE(
    _Status, c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t, c.c_void_p
)


class UcxError(Exception):
    """A call into UCX failed; ``status`` is its ucs_status_t."""

    def __init__(self, call: str, status: int, text: str) -> None:
        super().__init__(f"{call}: {text} ({status})")
        self.call, self.status = call, status


class _Params(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("features", c.c_uint64),
        ("request_size", c.c_size_t),
        ("request_init", c.c_void_p),
        ("request_cleanup", c.c_void_p),
        ("tag_sender_mask", c.c_uint64),
        ("mt_workers_shared", c.c_int),
        ("estimated_num_eps", c.c_size_t),
        ("estimated_num_ppn", c.c_size_t),
        ("name", c.c_char_p),
        ("node_local_id", c.c_size_t),
    )


class _WorkerParams(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("thread_mode", c.c_int),
        ("cpu_mask", c.c_uint64 * 16),
        ("events", c.c_uint),
        ("user_data", c.c_void_p),
        ("event_fd", c.c_int),
        ("flags", c.c_uint64),
        ("name", c.c_char_p),
        ("am_alignment", c.c_size_t),
        ("client_id", c.c_uint64),
    )


class _WorkerAttr(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("thread_mode", c.c_int),
        ("address_flags", c.c_uint32),
        ("address", c.c_void_p),
        ("address_length", c.c_size_t),
        ("max_am_header", c.c_size_t),
        ("name", c.c_char * 32),
        ("max_debug_string", c.c_size_t),
    )


class _EndpointParams(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("address", c.c_char_p),
        ("err_mode", c.c_int),
        ("on_error", _OnError),
        ("on_error_arg", c.c_void_p),
        ("user_data", c.c_void_p),
        ("flags", c.c_uint),
        ("sockaddr", c.c_uint64 * 2),
        ("conn_request", c.c_void_p),
        ("name", c.c_char_p),
        ("local_sockaddr", c.c_uint64 * 2),
    )


class _MapParams(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("address", c.c_void_p),
        ("length", c.c_size_t),
        ("flags", c.c_uint),
        ("prot", c.c_uint),
        ("memory_type", c.c_int),
        ("exported_memh_buffer", c.c_void_p),
    )


class _MapAttr(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("address", c.c_void_p),
        ("length", c.c_size_t),
        ("mem_type", c.c_int),
    )


class _OpParams(c.Structure):
    _fields_ = (
        ("op_attr_mask", c.c_uint32),
        ("flags", c.c_uint32),
        ("request", c.c_void_p),
        ("callback", c.c_void_p),
        ("datatype", c.c_uint64),
        ("user_data", c.c_void_p),
        ("reply_buffer", c.c_void_p),
        ("memory_type", c.c_int),
        ("recv_info", c.c_void_p),
        ("memh", c.c_void_p),
        ("remote_datatype", c.c_uint64),
        ("remote", c.c_void_p),
        ("remote_count", c.c_size_t),
    )


class _AmHandlerParams(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("id", c.c_uint),
        ("flags", c.c_uint32),
        ("callback", _OnMessage),
        ("arg", c.c_void_p),
    )


class _AmRecvParam(c.Structure):
    _fields_ = (("recv_attr", c.c_uint64), ("reply_ep", c.c_void_p))


class _TransportEntry(c.Structure):
    _fields_ = (("transport", c.c_char_p), ("device", c.c_char_p))


class _EndpointAttr(c.Structure):
    _fields_ = (
        ("field_mask", c.c_uint64),
        ("name", c.c_char * 32),
        ("local_sockaddr", c.c_uint64 * 16),
        ("remote_sockaddr", c.c_uint64 * 16),
        ("entries", c.POINTER(_TransportEntry)),
        ("num_entries", c.c_uint),
        ("entry_size", c.c_size_t),
        ("user_data", c.c_void_p),
    )


_V, _S, _P = c.c_void_p, c.c_size_t, c.POINTER
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "ucs_status_string": (c.c_char_p, [_Status]),
    "ucp_get_version": (None, [_P(c.c_uint)] * 3),
    "ucp_config_read": (_Status, [c.c_char_p, c.c_char_p, _P(_V)]),
    "ucp_config_modify": (_Status, [_V, c.c_char_p, c.c_char_p]),
    "ucp_config_release": (None, [_V]),
    "ucp_init_version": (_Status, [c.c_uint, c.c_uint, _P(_Params), _V, _P(_V)]),
    "ucp_cleanup": (None, [_V]),
    "ucp_worker_create": (_Status, [_V, _P(_WorkerParams), _P(_V)]),
    "ucp_worker_destroy": (None, [_V]),
    "ucp_worker_query": (_Status, [_V, _P(_WorkerAttr)]),
    "ucp_worker_release_address": (None, [_V, _V]),
    "ucp_worker_get_efd": (_Status, [_V, _P(c.c_int)]),
    "ucp_worker_progress": (c.c_uint, [_V]),
    "ucp_worker_arm": (_Status, [_V]),
    "ucp_worker_set_am_recv_handler": (_Status, [_V, _P(_AmHandlerParams)]),
    "ucp_mem_map": (_Status, [_V, _P(_MapParams), _P(_V)]),
    "ucp_mem_unmap": (_Status, [_V, _V]),
    "ucp_mem_query": (_Status, [_V, _P(_MapAttr)]),
    "ucp_rkey_pack": (_Status, [_V, _V, _P(_V), _P(_S)]),
    "ucp_rkey_buffer_release": (None, [_V]),
    "ucp_ep_rkey_unpack": (_Status, [_V, c.c_char_p, _P(_V)]),
    "ucp_rkey_ptr": (_Status, [_V, c.c_uint64, _P(_V)]),
    "ucp_rkey_destroy": (None, [_V]),
    "ucp_ep_create": (_Status, [_V, _P(_EndpointParams), _P(_V)]),
    "ucp_ep_query": (_Status, [_V, _P(_EndpointAttr)]),
    "ucp_ep_close_nbx": (_V, [_V, _P(_OpParams)]),
    "ucp_ep_flush_nbx": (_V, [_V, _P(_OpParams)]),
    "ucp_am_send_nbx": (_V, [_V, c.c_uint, c.c_char_p, _S, c.c_char_p, _S, _P(_OpParams)]),
    "ucp_put_nbx": (_V, [_V, _V, _S, c.c_uint64, _V, _P(_OpParams)]),
    "ucp_get_nbx": (_V, [_V, _V, _S, c.c_uint64, _V, _P(_OpParams)]),
    "ucp_request_check_status": (_Status, [_V]),
    "ucp_request_free": (None, [_V]),
}


class Library:
    """One loaded libucp. Raises OSError or AttributeError where ``path`` is not one."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.releasing = self._declare(c.CDLL(path))
        """Functions that let other Python threads run meanwhile."""
        self.holding = self._declare(c.PyDLL(path))
        """The same functions for calls that are shorter than handing the interpreter over."""
        numbers = [c.c_uint(), c.c_uint(), c.c_uint()]
        self.releasing.ucp_get_version(*map(c.byref, numbers))
        self.version = (numbers[0].value, numbers[1].value, numbers[2].value)

    @staticmethod
    def _declare(library: Any) -> Any:
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        return library

    def check(self, call: str, status: int) -> None:
        if status < 0:
            text: bytes = self.holding.ucs_status_string(status)
            raise UcxError(call, status, text.decode())

    def call(self, name: str, *arguments: Any) -> None:
        self.check(name, getattr(self.releasing, name)(*arguments))


class Context:
    """A UCX context with ``settings`` (names without the prefix ``UCX_``) on top of the
    environment's. Whoever uses it calls `hold`, then `release`; the last one ends it."""

    def __init__(self, library: Library, settings: Mapping[str, str]) -> None:
        self.library, self.handle = library, c.c_void_p()
        self._users = 0
        config = c.c_void_p()
        library.call("ucp_config_read", None, None, c.byref(config))
        try:
            for name, value in settings.items():
                status = library.holding.ucp_config_modify(config, name.encode(), value.encode())
                library.check(f"setting {name}={value}", status)
            params = _Params(field_mask=1, features=_FEATURES)
            handle = c.byref(self.handle)
            library.call("ucp_init_version", *_API_VERSION, c.byref(params), config, handle)
        finally:
            library.releasing.ucp_config_release(config)

    def hold(self) -> None:
        self._users += 1

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self.library.releasing.ucp_cleanup(self.handle)


class Memory:
    """A block of host memory that UCX allocated and that peers may write to.

    It keeps ``context``, and goes back, with it, when the last array or view of it is gone: closing
    a transport does not pull the memory from under a tensor that still looks at it.
    """

    def __init__(self, context: Context, num_bytes: int) -> None:
        self._context, self._library, self._handle = context, context.library, c.c_void_p()
        params = _MapParams(field_mask=0b110, length=num_bytes, flags=_ALLOCATE)
        self._library.call("ucp_mem_map", context.handle, c.byref(params), c.byref(self._handle))
        attributes = _MapAttr(field_mask=0b11)
        self._library.call("ucp_mem_query", self._handle, c.byref(attributes))
        self.address: int = attributes.address
        self.num_bytes = num_bytes
        context.hold()

    def view(self) -> memoryview:
        """The memory, writable. Once: the finalizer goes with it."""
        array = (c.c_ubyte * self.num_bytes).from_address(self.address)
        weakref.finalize(array, self._free).atexit = False
        return memoryview(array).cast("B")

    def key(self) -> bytes:
        """What a peer needs, besides the address, to write here."""
        buffer, size = c.c_void_p(), c.c_size_t()
        self._library.call(
            "ucp_rkey_pack", self._context.handle, self._handle, c.byref(buffer), c.byref(size)
        )
        packed = c.string_at(buffer.value or 0, size.value)
        self._library.releasing.ucp_rkey_buffer_release(buffer)
        return packed

    def _free(self) -> None:
        self._library.releasing.ucp_mem_unmap(self._context.handle, self._handle)
        self._context.release()


class Request:
    """An operation under way. ``kept`` stays alive until it is over."""

    def __init__(self, library: Library, pointer: int, kept: object = None) -> None:
        self._library, self._pointer, self._kept = library, pointer, kept
        self.status = IN_PROGRESS

    def poll(self) -> bool:
        """Whether it is over; ``status`` then says how, and the request is freed."""
        if self.status == IN_PROGRESS:
            self.status = self._library.holding.ucp_request_check_status(self._pointer)
            if self.status != IN_PROGRESS:
                self._library.holding.ucp_request_free(self._pointer)
                self._kept = None
        return self.status != IN_PROGRESS

    def check(self) -> None:
        """Raises `UcxError` where it is over and has failed."""
        self._library.check("request", self.status)


class Received(NamedTuple):
    """A message as the peer sent it."""

    number: int
    header: bytes
    data: bytes


class Worker:
    """The progress engine. ``messages`` and ``failed`` fill up while `progress` runs."""

    def __init__(self, context: Context, message_ids: Sequence[int]) -> None:
        self.library, self.handle = context.library, c.c_void_p()
        params = _WorkerParams()
        self.library.call(
            "ucp_worker_create", context.handle, c.byref(params), c.byref(self.handle)
        )
        self.messages: deque[Received] = deque()
        self.failed: deque[tuple[int, int]] = deque()
        """(endpoint handle, status), each endpoint once."""
        self.on_error = _OnError(lambda _, handle, status: self.failed.append((handle, status)))
        self._on_message = [self._listen(number) for number in message_ids]
        self.event_fd = self._event_fd()
        self.address = self._address()

    def _listen(self, number: int) -> object:
        def receive(_: int, head: int, head_length: int, data: int, length: int, param: int) -> int:
            if not _AmRecvParam.from_address(param).recv_attr & _RENDEZVOUS:
                header = c.string_at(head, head_length) if head_length else b""
                body = c.string_at(data, length) if length else b""
                self.messages.append(Received(number, header, body))
            return OK

        callback = _OnMessage(receive)
        params = _AmHandlerParams(field_mask=0b101, id=number, callback=callback)
        self.library.call("ucp_worker_set_am_recv_handler", self.handle, c.byref(params))
        return callback

    def _event_fd(self) -> int:
        descriptor = c.c_int()
        self.library.call("ucp_worker_get_efd", self.handle, c.byref(descriptor))
        return descriptor.value

    def _address(self) -> bytes:
        attributes = _WorkerAttr(field_mask=0b10)
        self.library.call("ucp_worker_query", self.handle, c.byref(attributes))
        address = c.string_at(attributes.address, attributes.address_length)
        self.library.releasing.ucp_worker_release_address(self.handle, attributes.address)
        return address

    def progress(self) -> bool:
        return bool(self.library.releasing.ucp_worker_progress(self.handle))

    def arm(self) -> bool:
        """Whether ``event_fd`` will tell of what comes next; False where there is work now."""
        status: int = self.library.holding.ucp_worker_arm(self.handle)
        if status != BUSY:
            self.library.check("ucp_worker_arm", status)
        return status != BUSY

    def close(self) -> None:
        self.library.releasing.ucp_worker_destroy(self.handle)


class RemoteKey:
    """A peer's memory as one endpoint reaches it."""

    def __init__(self, endpoint: Endpoint, packed: bytes) -> None:
        self._library, self.handle = endpoint.library, c.c_void_p()
        self._library.call("ucp_ep_rkey_unpack", endpoint.handle, packed, c.byref(self.handle))

    def mapped_at(self, remote_address: int) -> int | None:
        """Where that byte is in our own address space: an address only if memory is shared."""
        local = c.c_void_p()
        status = self._library.holding.ucp_rkey_ptr(self.handle, remote_address, c.byref(local))
        return local.value if status == OK else None

    def view(self, remote_address: int, num_bytes: int) -> memoryview | None:
        """Those bytes, writable, if memory is shared. Not to be looked at after `close`."""
        if not (address := self.mapped_at(remote_address)):
            return None
        return memoryview((c.c_ubyte * num_bytes).from_address(address)).cast("B")

    def close(self) -> None:
        self._library.releasing.ucp_rkey_destroy(self.handle)


class Endpoint:
    """A connection to one peer's worker; `Worker.failed` tells when it breaks."""

    def __init__(self, worker: Worker, address: bytes) -> None:
        self.library, self.handle = worker.library, c.c_void_p()
        self._params = _OpParams()
        self._param = c.byref(self._params)
        self._eager = c.byref(_OpParams(op_attr_mask=_OP_FLAGS, flags=_SEND_EAGER))
        params = _EndpointParams(
            field_mask=0b111, address=address, err_mode=_PEER_ERRORS, on_error=worker.on_error
        )
        self.library.call("ucp_ep_create", worker.handle, c.byref(params), c.byref(self.handle))

    def put(
        self, key: RemoteKey, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """Begin copying ``sizes[i]`` bytes from our address ``local[i]`` to theirs, ``remote[i]``.

        Our bytes are free again after the next `flush`, and theirs are written then.
        """
        self._copy("ucp_put_nbx", key, (local, remote, sizes))

    def get(
        self, key: RemoteKey, local: Sequence[int], remote: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """Begin copying ``sizes[i]`` bytes from their address ``remote[i]`` to ours, ``local[i]``.

        They are here after the next `flush`.
        """
        self._copy("ucp_get_nbx", key, (local, remote, sizes))

    def _copy(self, call: str, key: RemoteKey, columns: Sequence[Sequence[int]]) -> None:
        """Others run meanwhile, however short a run is: a transfer is many of them."""
        begin = getattr(self.library.releasing, call)
        endpoint, rkey, param = self.handle, key.handle, self._param
        for ours, theirs, size in zip(*columns, strict=True):
            pointer = begin(endpoint, ours, size, theirs, rkey, param)
            if pointer:
                self._free(call, pointer)

    def _free(self, call: str, pointer: int) -> None:
        """A request may be freed in flight: the flush that follows completes the batch."""
        if pointer >= _FIRST_ERROR_POINTER:
            self.library.check(call, pointer - 2**64)
        self.library.holding.ucp_request_free(pointer)

    def flush(self) -> Request | None:
        """None where everything before was complete already."""
        return self._begun("flush", self.library.releasing.ucp_ep_flush_nbx, self._param)

    def send(self, number: int, header: bytes, data: bytes) -> Request | None:
        """Send to the peer's handler of messages ``number``, in order."""
        call = self.library.releasing.ucp_am_send_nbx
        arguments = (number, header, len(header), data, len(data), self._eager)
        return self._begun("send", call, *arguments, kept=(header, data))

    def close_by_force(self) -> Request | None:
        """The handle is void at once; what was under way ends with an error."""
        flags = _OpParams(op_attr_mask=_OP_FLAGS, flags=_CLOSE_BY_FORCE)
        return self._begun("close", self.library.releasing.ucp_ep_close_nbx, c.byref(flags))

    def _begun(self, name: str, call: Any, *arguments: Any, kept: object = None) -> Request | None:
        pointer: int | None = call(self.handle, *arguments)
        if pointer is None:
            return None
        if pointer >= _FIRST_ERROR_POINTER:
            self.library.check(f"endpoint {name}", pointer - 2**64)
        return Request(self.library, pointer, kept)

    def transports(self) -> list[str]:
        """Names of the UCX transports that this endpoint may use, such as ``sysv`` or ``tcp``."""
        entries = (_TransportEntry * 64)()
        attributes = _EndpointAttr(
            field_mask=1 << 3, entries=entries, num_entries=64, entry_size=c.sizeof(_TransportEntry)
        )
        self.library.call("ucp_ep_query", self.handle, c.byref(attributes))
        return [entries[i].transport.decode() for i in range(attributes.num_entries)]
