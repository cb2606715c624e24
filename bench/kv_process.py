"""A courier over UCX in a process of its own, driven through a pipe."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import queue
import signal
import time
from multiprocessing.connection import Connection
from typing import Any, Final

from msgspec import Struct

from bus.transfers import PoolShape, TransferEvent
from kvtransport.courier import Courier, CourierConfig, steady_clock
from kvtransport.ucx import UcxTransport

PATIENCE_S: Final = 30.0
KEY: Final = b"the benchmark's fleet"


class Gone(Exception):
    """The process does not answer any more."""


class Raised(Exception):
    """What the process was asked for raised this: few errors can travel by themselves."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class Engine:
    """What runs in the process: every public method can be asked for by name."""

    def __init__(
        self,
        name: str,
        shape: PoolShape,
        lease_s: float,
        settings: dict[str, str],
        checksums: bool = False,
    ) -> None:
        self.shape = shape
        self._events: queue.Queue[tuple[float, TransferEvent]] = queue.Queue()
        self.courier = Courier(
            CourierConfig(name, time.time_ns(), shape, KEY, lease_s, checksums),
            UcxTransport(settings=settings),
            steady_clock(),
            lambda event: self._events.put((time.monotonic(), event)),
        )

    def event(self, timeout_s: float) -> tuple[float, TransferEvent] | None:
        """When (on the machine's clock) and how the next transfer ended; None if none did."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def grant(self, flow: str, pages: list[int]) -> bytes:
        end = len(pages) * self.shape.page_size
        return self.courier.grant(flow, 1, 0, end, pages)

    def send(self, flow: str, grant: bytes, pages: list[int]) -> None:
        self.courier.open(flow, 1, grant, 0, len(pages) * self.shape.page_size)
        for layer in range(self.shape.num_layers):
            self.courier.write(flow, 1, layer, 0, pages)
        self.courier.finish(flow, 1)

    def lend(self, flow: str, grant: bytes, pages: list[int]) -> None:
        self.courier.open(flow, 1, grant, 0, len(pages) * self.shape.page_size)
        self.courier.lend(flow, 1, pages)

    def revoke(self, flow: str) -> None:
        self.courier.revoke(flow, 1)

    def fill(self, seed: int) -> None:
        block = hashlib.shake_256(str(seed).encode()).digest(1 << 20)
        whole, rest = divmod(self.shape.num_bytes, len(block))
        self.courier.buffer[:] = block * whole + block[:rest]

    def digest(self, pages: list[int]) -> str:
        """Of these pages in this order, layer by layer."""
        seen = hashlib.blake2b()
        for layer in range(self.shape.num_layers):
            for page in pages:
                begin = (layer * self.shape.num_pages + page) * self.shape.page_bytes
                seen.update(self.courier.buffer[begin : begin + self.shape.page_bytes])
        return seen.hexdigest()

    def usage(self) -> Usage:
        return Usage(time.process_time(), _resident_bytes())

    def close(self) -> None:
        self.courier.close()


class Usage(Struct, frozen=True):
    cpu_s: float
    resident_bytes: int


class KvProcess:
    """An `Engine` elsewhere; methods have its methods' names, and raise `Raised` or `Gone`."""

    def __init__(
        self,
        name: str,
        shape: PoolShape,
        lease_s: float = 30.0,
        settings: dict[str, str] | None = None,
        checksums: bool = False,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, name, shape, lease_s, settings or {}, checksums)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self._answer()

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any) -> Any:
            self.begin(name, *arguments)
            return self._answer()

        return ask

    def begin(self, name: str, *arguments: Any) -> None:
        """Ask without waiting for the answer, which `end` takes."""
        try:
            self._pipe.send((name, arguments))
        except OSError as error:
            raise Gone(str(error)) from None

    def end(self) -> Any:
        return self._answer()

    def signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """As ``kill -9``; reaped, since a zombie counts as alive."""
        self.process.kill()
        self.process.join()
        self._pipe.close()

    def leave(self) -> None:
        """In good order. Again does nothing."""
        if self.process.is_alive():
            self._pipe.close()
            self.process.join(PATIENCE_S)

    def _answer(self) -> Any:
        try:
            if not self._pipe.poll(PATIENCE_S):
                raise Gone("no answer")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise Gone(str(error)) from None
        if isinstance(answer, Raised):
            raise answer
        return answer


def _serve(pipe: Connection, *arguments: Any) -> None:
    """With what an `Engine` is made of."""
    try:
        engine = Engine(*arguments)
    except Exception as error:
        pipe.send(Raised(type(error).__name__, str(error)))
        return
    pipe.send(None)
    try:
        while True:
            asked, given = pipe.recv()
            try:
                pipe.send(getattr(engine, asked)(*given))
            except Exception as error:
                pipe.send(Raised(type(error).__name__, str(error)))
    except (EOFError, OSError):
        engine.close()


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
