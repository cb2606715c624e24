"""An in-memory KV transport whose deliveries happen when and in which order a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed, TransferEvent
from bus.wire import GrantRefused

Key: TypeAlias = tuple[str, int]
Name: TypeAlias = tuple[str, str, int]
"""Engine, flow, attempt: a grant or a sending."""


@dataclass
class Granted:
    """The receiver's end of a transfer."""

    engine: str
    key: Key
    begin: int
    end: int
    pages: list[int]
    revoked: bool = False
    writer: str | None = None
    void: str = ""
    """Why no writer will complete it any more."""


@dataclass
class Opened:
    """The sender's end of a transfer."""

    engine: str
    key: Key
    granted: Granted
    writes: deque[tuple[int, int, list[int]]] = field(default_factory=deque)
    """(layer, first granted page, our pages) that have not been carried out."""
    landed: set[tuple[int, int]] = field(default_factory=set)
    """(layer, granted page) that were."""
    finished: bool = False
    lent: bool = False
    """The receiver reads; nothing was written."""
    aborted: bool = False


class FakeNetwork:
    """Connects the `FakeWire`s of one process.

    Nothing happens by itself: writes lie in a queue and read the sender's pages only when they are
    carried out, and each end hears of an outcome when the test takes it from `events`. `actions`
    lists everything that may happen next; `settle` does it all, in the order in which it was asked.
    """

    def __init__(self) -> None:
        self._pools: dict[str, tuple[memoryview, PoolShape]] = {}
        self.granted: dict[Name, Granted] = {}
        self.opened: dict[Name, Opened] = {}
        self.events: dict[str, deque[TransferEvent]] = {}
        """By engine: what its transport has to tell it."""
        self.num_bytes = 0
        """Written so far."""

    def wire(self, engine: str, memory: memoryview, shape: PoolShape) -> FakeWire:
        """The end of ``engine``, whose pool lies in ``memory``."""
        self._pools[engine] = memory, shape
        self.events[engine] = deque()
        return FakeWire(self, engine)

    def num_layers(self, engine: str) -> int:
        return self._pools[engine][1].num_layers

    def actions(self) -> list[partial[None]]:
        """All that could happen next on the wires, each a method with its arguments. Call one, then
        ask again."""
        possible: list[partial[None]] = []
        for opened in self.opened.values():
            possible += self._send_actions(opened)
        for granted in self.granted.values():
            over = granted.revoked or granted.void
            possible.append(partial(self.fence if over else self.expire, granted))
        return possible

    def settle(self) -> None:
        """Deliver what is finished, fail what is aborted, fence what is revoked."""
        for opened in list(self.opened.values()):
            if opened.aborted or opened.granted.revoked or opened.granted.void:
                self.fail(opened, "aborted")
            elif opened.finished:
                self.deliver(opened)
        for granted in list(self.granted.values()):
            if granted.revoked or granted.void:
                self.fence(granted)

    # --- what may happen ------------------------------------------------------------------------

    def land(self, opened: Opened, count: int = 1) -> None:
        """Carry out the first ``count`` writes: one-sided, nobody is told."""
        for _ in range(min(count, len(opened.writes))):
            layer, first, pages = opened.writes.popleft()
            for number, page in enumerate(pages, first):
                self._copy(opened, layer, page, number)

    def deliver(self, opened: Opened) -> None:
        """Everything lands; both ends hear of it."""
        granted = opened.granted
        assert opened.finished, "delivered before `finish`"
        assert not granted.revoked, "delivered after `revoke`"
        self.land(opened, len(opened.writes))
        self._check_complete(opened)
        del self.opened[opened.engine, *opened.key], self.granted[granted.engine, *granted.key]
        num_bytes = len(opened.landed) * self._pools[opened.engine][1].page_bytes
        self.events[granted.engine].append(Arrived(*granted.key, num_bytes=num_bytes))
        self.events[opened.engine].append(
            Delivered(
                *opened.key,
                num_bytes=num_bytes,
                num_runs=len(opened.landed),
                seconds=0.5,
                exposed_s=0.25,
                lane="memory",
                write_s=0.125,
            )
        )

    def fail(self, opened: Opened, reason: str = "the link broke") -> None:
        """The sender will write no more; the receiver's grant can be fenced from now on."""
        del self.opened[opened.engine, *opened.key]
        opened.granted.void = reason
        self.events[opened.engine].append(SendFailed(*opened.key, reason=reason))

    def expire(self, granted: Granted) -> None:
        """The receiver's lease ran out; it is fenced once its writer, if any, is stopped."""
        granted.void = "the lease ran out"

    def fence(self, granted: Granted) -> None:
        """The receiver hears that nobody can write any more: a writer that could is cut off."""
        for opened in [o for o in self.opened.values() if o.granted is granted]:
            self.fail(opened, "the grant was taken back")
        del self.granted[granted.engine, *granted.key]
        reason = granted.void or "revoked"
        self.events[granted.engine].append(Fenced(*granted.key, reason=reason))

    def _send_actions(self, opened: Opened) -> list[partial[None]]:
        possible = [partial(self.fail, opened)]
        if opened.writes and not opened.aborted:
            possible.append(partial(self.land, opened))
        if opened.finished and not (opened.granted.revoked or opened.granted.void):
            possible.append(partial(self.deliver, opened))
        return possible

    # --- bytes ----------------------------------------------------------------------------------

    def _copy(self, opened: Opened, layer: int, page: int, number: int) -> None:
        granted = opened.granted
        remote = granted.pages[number]
        self._page(granted.engine, layer, remote)[:] = self._page(opened.engine, layer, page)
        opened.landed.add((layer, number))
        self.num_bytes += self._pools[opened.engine][1].page_bytes

    def _page(self, engine: str, layer: int, page: int) -> memoryview:
        memory, shape = self._pools[engine]
        begin = (layer * shape.num_pages + page) * shape.page_bytes
        return memory[begin : begin + shape.page_bytes]

    def _check_complete(self, opened: Opened) -> None:
        layers = range(self._pools[opened.engine][1].num_layers)
        every = {(layer, page) for layer in layers for page in range(len(opened.granted.pages))}
        assert opened.landed == every, f"never written: {sorted(every - opened.landed)}"


class FakeWire:
    """A `bus.wire.Wire` on a `FakeNetwork`."""

    def __init__(self, network: FakeNetwork, engine: str) -> None:
        self._network, self._engine = network, engine

    def grant(self, flow: str, attempt: int, begin: int, end: int, pages: Sequence[int]) -> bytes:
        name = self._engine, flow, attempt
        assert name not in self._network.granted
        self._network.granted[name] = Granted(
            self._engine, (flow, attempt), begin, end, list(pages)
        )
        return "/".join((self._engine, flow, str(attempt))).encode()

    def revoke(self, flow: str, attempt: int) -> None:
        granted = self._network.granted.get((self._engine, flow, attempt))
        if granted:
            granted.revoked = True

    def open(self, flow: str, attempt: int, grant: bytes, begin: int, end: int) -> None:
        granted = self._found(grant)
        if granted is None:  # as the receiver answers it, by and by
            failed = SendFailed(flow, attempt, reason=f"no such grant: {grant!r}")
            self._network.events[self._engine].append(failed)
            return
        if (begin, end) != (granted.begin, granted.end):
            raise GrantRefused(
                "bad_range",
                f"[{begin}, {end}) was to be sent, [{granted.begin}, {granted.end}) is granted",
            )
        if granted.writer:
            raise GrantRefused("bad_request", f"{granted.writer} writes with this grant already")
        granted.writer = self._engine
        opened = Opened(self._engine, (flow, attempt), granted)
        self._network.opened[self._engine, flow, attempt] = opened

    def write(self, flow: str, attempt: int, layer: int, first: int, pages: Sequence[int]) -> None:
        opened = self._network.opened.get((self._engine, flow, attempt))
        if opened and not opened.aborted:
            assert 0 <= first <= first + len(pages) <= len(opened.granted.pages)
            opened.writes.append((layer, first, list(pages)))

    def lend(self, flow: str, attempt: int, pages: Sequence[int]) -> None:
        opened = self._network.opened.get((self._engine, flow, attempt))
        if opened and not opened.aborted:
            assert not opened.writes, "lent after something was written"
            assert not opened.landed, "lent after something was written"
            assert len(pages) == len(opened.granted.pages)
            for layer in range(self._network.num_layers(self._engine)):
                opened.writes.append((layer, 0, list(pages)))
            opened.lent = opened.finished = True

    def finish(self, flow: str, attempt: int) -> None:
        opened = self._network.opened.get((self._engine, flow, attempt))
        if opened:
            opened.finished = True

    def abort(self, flow: str, attempt: int) -> None:
        opened = self._network.opened.get((self._engine, flow, attempt))
        if opened:
            opened.aborted = True

    def _found(self, grant: bytes) -> Granted | None:
        """None where it is over: only its receiver knows that."""
        try:
            engine, flow, attempt = grant.decode().split("/")
            return self._network.granted.get((engine, flow, int(attempt)))
        except ValueError:
            raise GrantRefused("bad_request", f"this is no grant: {grant!r}") from None
