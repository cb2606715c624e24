"""An engine's courier that a test drives, here or in a process of its own."""

from __future__ import annotations

import hashlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bus.transfers import PoolShape, TransferEvent
from kvtransport.courier import Courier, CourierConfig, steady_clock
from kvtransport.memory import MemoryNetwork
from kvtransport.transport import Transport
from kvtransport.ucx import UcxTransport

PATIENCE_S = 20.0
KEY = b"the fleet's secret"


class Engine:
    """A courier, its events in a queue, and a clock that only the test moves, if it wants."""

    def __init__(
        self,
        name: str,
        shape: PoolShape,
        transport: Transport,
        clock: Callable[[], float] | None = None,
        epoch: int = 1,
        checksums: bool = False,
    ) -> None:
        self.events: queue.Queue[TransferEvent] = queue.Queue()
        self.shape, self.transport = shape, transport
        config = CourierConfig(name, epoch, shape, KEY, checksums=checksums)
        self.courier = Courier(config, transport, clock or steady_clock(), self.events.put)

    def event(self) -> TransferEvent:
        return self.events.get(timeout=PATIENCE_S)

    def reach(self) -> None:
        """Wait until everything that the courier was told before was done."""
        reached = threading.Event()
        self.transport.call(reached.set)
        assert reached.wait(PATIENCE_S)

    def page(self, layer: int, page: int) -> memoryview:
        begin = (layer * self.shape.num_pages + page) * self.shape.page_bytes
        return self.courier.buffer[begin : begin + self.shape.page_bytes]

    def digest(self, pages: list[int]) -> str:
        """Of these pages in this order, in every layer."""
        seen = hashlib.sha256()
        for layer in range(self.shape.num_layers):
            for page in pages:
                seen.update(self.page(layer, page))
        return seen.hexdigest()

    def fill(self, pages: list[int], seed: int) -> None:
        for layer in range(self.shape.num_layers):
            for page in pages:
                block = hashlib.sha256(f"{seed} {layer} {page}".encode()).digest()
                whole = block * (self.shape.page_bytes // len(block))
                self.page(layer, page)[:] = whole

    def grant(self, flow: str, pages: list[int]) -> bytes:
        end = len(pages) * self.shape.page_size
        return self.courier.grant(flow, 1, 0, end, pages)

    def revoke(self, flow: str) -> None:
        self.courier.revoke(flow, 1)

    def open(self, flow: str, grant: bytes, num_pages: int) -> None:
        self.courier.open(flow, 1, grant, 0, num_pages * self.shape.page_size)

    def write(self, flow: str, layer: int, pages: list[int]) -> None:
        self.courier.write(flow, 1, layer, 0, pages)

    def lend(self, flow: str, grant: bytes, pages: list[int]) -> None:
        """A whole transfer of pages that exist already."""
        self.open(flow, grant, len(pages))
        self.courier.lend(flow, 1, pages)

    def finish(self, flow: str) -> None:
        self.courier.finish(flow, 1)

    def send(self, flow: str, grant: bytes, pages: list[int]) -> None:
        """A whole transfer, layer by layer."""
        self.open(flow, grant, len(pages))
        for layer in range(self.shape.num_layers):
            self.write(flow, layer, pages)
        self.finish(flow)

    def pester(self, flow: str, grant: bytes, pages: list[int], seconds: float) -> None:
        """Write the first layer again and again, never finishing."""
        self.open(flow, grant, len(pages))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.write(flow, 0, pages)
            self.reach()

    def close(self) -> None:
        self.courier.close()


def memory_engine(network: MemoryNetwork, name: str, shape: PoolShape, **more: Any) -> Engine:
    return Engine(name, shape, network.transport(), **more)


def ucx_engine(name: str, shape: PoolShape, settings: dict[str, str] | None = None) -> Engine:
    return Engine(name, shape, UcxTransport(settings=settings))


class EngineProcess:
    """An `Engine` over UCX in a process of its own; methods have its methods' names."""

    def __init__(self, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, *arguments))
        self.process.start()
        theirs.close()

    def begin(self, name: str, *arguments: Any) -> None:
        """Without waiting for it to return."""
        self._pipe.send((name, arguments))

    def end(self) -> Any:
        if not self._pipe.poll(2 * PATIENCE_S):
            raise TimeoutError("the engine's process did not answer")
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.begin(name, *arguments)
            return self.end()

        return call

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def close(self) -> None:
        self._pipe.close()
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.kill()
            raise AssertionError("the engine's process did not end by itself")


def _serve(pipe: Connection, *arguments: Any) -> None:
    engine = ucx_engine(*arguments)
    try:
        while True:
            name, given = pipe.recv()
            try:
                pipe.send(getattr(engine, name)(*given))
            except Exception as error:
                pipe.send(error)
    except (EOFError, ConnectionResetError):
        engine.close()
