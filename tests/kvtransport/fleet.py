"""A fleet of real couriers without threads, and everything that can go wrong with it.

One random number after another says what happens next, so that a seed replays a run. Every page
that nobody has holds a mark; whoever gets it finds the mark unharmed, or somebody wrote too late.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np
import pytest

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed, TransferEvent
from bus.wire import GrantRefused
from kvtransport.courier import Courier, CourierConfig
from kvtransport.memory import MemoryNetwork, MemoryTransport
from kvtransport.transport import Handler

from .shapes import shape

LEASE_S = 30.0
KEY = b"the fleet's secret"
MARK = 0xEE
OTHER_LAYOUT = shape(num_pages=16, page_bytes=128, fingerprint="another model")


class SteppedTransport(MemoryTransport):
    """Does nothing but when the test says so."""

    def start(self, handler: Handler) -> None:
        self._handler = handler


@dataclass
class Transfer:
    """What a sender sends, and where from."""

    grant: bytes
    content: bytes
    """Of all granted pages, layer by layer."""
    num_pages: int
    receiver: int
    pages: list[int] = field(default_factory=list)
    num_written: int = 0
    closed: bool = False


@dataclass
class Member:
    """One engine: its life, its pages and who has them."""

    number: int
    epoch: int
    shape: PoolShape
    transport: SteppedTransport
    events: deque[TransferEvent] = field(default_factory=deque)
    stopped: bool = False
    granted: dict[str, tuple[list[int], bytes]] = field(default_factory=dict)
    sending: dict[str, Transfer] = field(default_factory=dict)
    free: list[int] = field(default_factory=list)
    courier: Courier = field(init=False)


class Fleet:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1e9
        self.network = MemoryNetwork()
        self.flows = 0
        self.epochs = 0
        self.faults: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.offers: list[tuple[str, Transfer]] = []
        self.old_grants: list[bytes] = []
        self.members = [self._born(n, shape(num_pages=12)) for n in range(3)]
        self.members.append(self._born(3, OTHER_LAYOUT))

    # --- one thing after another ----------------------------------------------------------------

    def play(self, num_faults: int) -> None:
        while sum(self.faults.values()) < num_faults:
            for _ in range(self.random.randrange(5, 60)):
                self.random.choice((self.grant, self.open, *[self.advance] * 3))()
                for _ in range(2):
                    self.step(self.random.choice(self.members[:3]))
            self.break_something()
        self.end()

    def step(self, member: Member) -> None:
        if not member.stopped:
            member.transport.round(at_most=self.random.choice((1, 2, None)))
            while member.events:
                self.tell(member, member.events.popleft())

    def grant(self) -> None:
        member = self.random.choice(self.members[:3])
        count = self.random.randrange(1, 4)
        if len(self.offers) > 1:
            return  # somebody is to use them before their lease runs out
        if member.stopped or len(member.free) < count:
            return
        self.flows += 1
        flow = f"f{self.flows}"
        pages = [self.take(member) for _ in range(count)]
        end = count * member.shape.page_size
        content = self.random.randbytes(count * member.shape.num_layers * 64)
        grant = member.courier.grant(flow, 1, 0, end, pages)
        member.granted[flow] = pages, content
        self.offers.append((flow, Transfer(grant, content, count, member.number)))

    def open(self) -> None:
        member = self.random.choice(self.members[:3])
        if not self.offers or member.stopped:
            return
        flow, transfer = self.offers.pop(self.random.randrange(len(self.offers)))
        count = transfer.num_pages
        if member.number == transfer.receiver or len(member.free) < count:
            self.offers.append((flow, transfer))
            return
        try:
            member.courier.open(flow, 1, transfer.grant, 0, count * member.shape.page_size)
        except GrantRefused:
            return  # it expired meanwhile
        self.old_grants.append(transfer.grant)
        transfer.pages = [self.take(member) for _ in range(count)]
        member.sending[flow] = transfer
        for layer in range(member.shape.num_layers):
            for index, page in enumerate(transfer.pages):
                at = (layer * count + index) * 64
                self.page(member, layer, page)[:] = transfer.content[at : at + 64]

    def advance(self) -> None:
        """Write another layer, finish, or lend it all."""
        member = self.random.choice(self.members[:3])
        living = [(f, t) for f, t in member.sending.items() if not t.closed]
        if not living or member.stopped:
            return
        flow, transfer = self.random.choice(living)
        if transfer.num_written == 0 and self.random.random() < 0.4:
            member.courier.lend(flow, 1, transfer.pages)
            transfer.closed = True
        elif transfer.num_written < member.shape.num_layers:
            member.courier.write(flow, 1, transfer.num_written, 0, transfer.pages)
            transfer.num_written += 1
        else:
            member.courier.finish(flow, 1)
            transfer.closed = True

    # --- faults ---------------------------------------------------------------------------------

    def break_something(self) -> None:
        fault = self.random.choice(
            (
                self.kill,
                self.stop,
                self.sever,
                self.revoke,
                self.abort,
                self.alter_a_grant,
                self.use_a_grant_again,
                self.ask_another_layout,
                self.fill_memory,
                self.let_a_lease_run_out,
                self.close_an_endpoint,
            )
        )
        if fault():
            self.faults[fault.__name__] += 1

    def kill(self) -> bool:
        """And start it again, with a new epoch and an empty pool."""
        member = self.random.choice(self.members[:3])
        member.transport.die()
        self.members[member.number] = self._born(member.number, member.shape)
        return True

    def stop(self) -> bool:
        """As SIGSTOP does: it says and does nothing for longer than the lease, and then goes on."""
        member = self.random.choice(self.members[:3])
        member.stopped = True
        for _ in range(4):
            self.pass_time(LEASE_S / 2)
        member.stopped = False
        return True

    def sever(self) -> bool:
        one, other = self.random.sample(self.members[:3], 2)
        self.network.sever(one.transport.address, other.transport.address)
        return True

    def close_an_endpoint(self) -> bool:
        """It takes leave in good order, with whatever is open, and comes back."""
        member = self.random.choice(self.members[:3])
        member.transport.close()
        self.members[member.number] = self._born(member.number, member.shape)
        return True

    def revoke(self) -> bool:
        member = self.random.choice(self.members[:3])
        for flow in list(member.granted)[:1]:
            member.courier.revoke(flow, 1)
        return bool(member.granted)

    def abort(self) -> bool:
        member = self.random.choice(self.members[:3])
        for flow in list(member.sending)[:1]:
            member.courier.abort(flow, 1)
            member.sending[flow].closed = True
        return bool(member.sending)

    def alter_a_grant(self) -> bool:
        if not self.offers:
            return False
        flow, transfer = self.random.choice(self.offers)
        damaged = bytearray(transfer.grant)
        damaged[self.random.randrange(len(damaged))] ^= 1 << self.random.randrange(8)
        self.refused(flow, bytes(damaged), transfer.num_pages, "bad_message")
        return True

    def use_a_grant_again(self) -> bool:
        """The receiver refuses what was used, or is of another epoch: the sender hears of it."""
        if not self.old_grants:
            return False
        member = self.random.choice(self.members[:3])
        flow = f"again{self.flows}"
        self.refused(flow, self.random.choice(self.old_grants), 1, None, member)
        return True

    def ask_another_layout(self) -> bool:
        if not self.offers:
            return False
        flow, transfer = self.random.choice(self.offers)
        self.refused(flow, transfer.grant, transfer.num_pages, "incompatible", self.members[3])
        return True

    def fill_memory(self) -> bool:
        """No page is left: nothing is granted, and nothing is harmed."""
        member = self.random.choice(self.members[:3])
        kept, member.free = member.free, []
        for _ in range(5):
            self.grant()
            self.open()
            self.advance()
            self.step(self.random.choice(self.members))
        member.free += kept
        return True

    def let_a_lease_run_out(self) -> bool:
        self.pass_time(LEASE_S + 1)
        return True

    def refused(
        self,
        flow: str,
        grant: bytes,
        num_pages: int,
        reason: str | None,
        member: Member | None = None,
    ) -> None:
        member = member or self.random.choice(self.members[:3])
        if flow in member.sending or flow in member.granted:
            return
        with pytest.raises(GrantRefused) as refused:
            member.courier.open(flow, 1, grant, 0, num_pages * member.shape.page_size)
        assert reason is None or refused.value.reason in (reason, "transfer_failed")

    # --- pages ----------------------------------------------------------------------------------

    def take(self, member: Member) -> int:
        page = member.free.pop(self.random.randrange(len(member.free)))
        for layer in range(member.shape.num_layers):
            content = np.frombuffer(self.page(member, layer, page), np.uint8)
            assert (content == MARK).all(), "written while it was nobody's"
        return page

    def give(self, member: Member, pages: list[int]) -> None:
        for page in pages:
            for layer in range(member.shape.num_layers):
                self.page(member, layer, page)[:] = bytes([MARK]) * member.shape.page_bytes
        member.free += pages

    @staticmethod
    def page(member: Member, layer: int, page: int) -> memoryview:
        begin = (layer * member.shape.num_pages + page) * member.shape.page_bytes
        return member.courier.buffer[begin : begin + member.shape.page_bytes]

    # --- what the engines hear ------------------------------------------------------------------

    def tell(self, member: Member, event: TransferEvent) -> None:
        self.told[type(event).__name__] += 1
        match event:
            case Arrived() | Fenced():
                pages, content = member.granted.pop(event.flow)
                if isinstance(event, Arrived):
                    assert self.content(member, pages) == content, "wrong bytes"
                self.give(member, pages)
            case Delivered() | SendFailed():
                self.give(member, member.sending.pop(event.flow).pages)

    def content(self, member: Member, pages: list[int]) -> bytes:
        layers = range(member.shape.num_layers)
        return b"".join(bytes(self.page(member, n, page)) for n in layers for page in pages)

    # --- time, birth and the end ----------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for _ in range(3):
            for member in self.members:
                self.step(member)

    def _born(self, number: int, pool: PoolShape) -> Member:
        self.epochs += 1
        transport = SteppedTransport(self.network, self.epochs.to_bytes(16, "big"))
        self.network.add(transport)
        member = Member(number, self.epochs, pool, transport)
        config = CourierConfig(f"engine-{number}", self.epochs, pool, KEY, LEASE_S)
        member.courier = Courier(config, transport, lambda: self.now, member.events.append)
        self.give(member, list(range(pool.num_pages)))
        return member

    def end(self) -> None:
        """Everything takes its course: then nothing is held, and every page is whole."""
        self.offers.clear()
        for _ in range(8):
            self.pass_time(LEASE_S + 1)
            for _ in range(40):
                for member in self.members:
                    self.step(member)
        for member in self.members:
            assert not member.granted, "a grant without an end"
            assert not member.sending, "a transfer without an end"
            assert sorted(member.free) == list(range(member.shape.num_pages)), "a page is lost"
            for _ in range(len(member.free)):
                self.take(member)
            assert member.transport.statistics().failed == 0
