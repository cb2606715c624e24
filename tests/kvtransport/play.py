"""Two real ledgers, a channel that delays as it likes, and deaths at any moment."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from bus.transfers import Arrived, Delivered, Fenced, TransferEvent
from kvtransport.effects import Connect, Drop, Effect, Flush, Get, Name, Put, Send, Tell
from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.layout import Runs, as_pages, compress
from kvtransport.ledger import Ledger
from kvtransport.opening import Life
from kvtransport.outgoing import Home, Write
from kvtransport.protocol import AnyProtocolMessage, Open
from kvtransport.receiving import Receiver
from kvtransport.sending import Sender

from .shapes import shape

SHAPE = shape(num_pages=12)
LEASE_S = 30.0
SIDES = (0, 1)
ADDRESSES = (b"A" * 16, b"B" * 16)


Job = Put | Get | Flush


@dataclass
class Side:
    """An engine as its ledger sees it: what is to be written, and who holds each page."""

    ledger: Ledger
    alive: bool = True
    told_lost: bool = False
    jobs: deque[Job] = field(default_factory=deque)
    under_way: deque[Job] = field(default_factory=deque)
    inbox: deque[AnyProtocolMessage] = field(default_factory=deque)
    heard: list[AnyProtocolMessage] = field(default_factory=list)
    free: list[int] = field(default_factory=lambda: list(range(SHAPE.num_pages)))
    held: dict[Name, list[int]] = field(default_factory=dict)
    offered: list[Grant] = field(default_factory=list)
    open: list[Name] = field(default_factory=list)
    counts: dict[Name, int] = field(default_factory=dict)
    numbers: dict[int, Name] = field(default_factory=dict)
    written: dict[Name, int] = field(default_factory=dict)
    lent: dict[Name, list[int]] = field(default_factory=dict)
    ended: set[tuple[str, Name]] = field(default_factory=set)
    arrived: set[Name] = field(default_factory=set)


def ledger(n: int) -> Ledger:
    home = Home(ADDRESSES[n], b"", SHAPE)
    return Ledger(Receiver(Life("ab"[n], 1), LEASE_S, SHAPE), Sender(home))


class Play:
    """Pages are free again when Arrived or Fenced was told; nobody may write them then.

    Every number that comes in picks one of the things that could happen next.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.serials = 0
        self.told: Counter[str] = Counter()
        self.sides = [Side(ledger(n)) for n in SIDES]

    def step(self, pick: int) -> None:
        options = self.options()
        action, *arguments = options[pick % len(options)]
        action(*arguments)

    def options(self) -> list[tuple[Any, ...]]:
        """(what, with what); what should happen often is there more than once."""
        options: list[tuple[Any, ...]] = [(self.pass_time, 1.0)]
        for n in SIDES:
            if self.sides[n].alive:
                options += self.engine_options(n) + self.network_options(n)
        if self.serials > 4:
            options += [(self.pass_time, 16.0)]
        if self.serials > 8 and all(side.alive for side in self.sides):
            options += [(self.pass_time, 31.0), (self.die, self.serials % 2)]
        return options

    def engine_options(self, n: int) -> list[tuple[Any, ...]]:
        side = self.sides[n]
        options: list[tuple[Any, ...]] = []
        if len(side.held) < 2:
            options += [(self.grant, n, 2), (self.grant, n, self.serials % 4)]
        options += [(self.open_transfer, n)] * (4 * bool(side.offered))
        for name in side.open[:2]:
            written, number = side.written.get(name, 0), int(name[0][1:])
            layers = min(written + 1, SHAPE.num_layers)
            done = written == SHAPE.num_layers
            options += [(self.lend, n, name)] * (6 * (number % 2) if not written else 0)
            options += [(self.write_layers, n, name, layers)] * (1 if done else 6)
            options += [(self.end_transfer, n, name, "finish")] * (6 if done else number % 7 == 0)
            options += [(self.end_transfer, n, name, "abort")] * (number % 5 == 0)
        revocable = [name for name in side.held if int(name[0][1:]) % 3 == 0]
        return options + [(self.revoke, n, name) for name in revocable]

    def network_options(self, n: int) -> list[tuple[Any, ...]]:
        side = self.sides[n]
        options: list[tuple[Any, ...]] = [(self.deliver, n)] * (8 * bool(side.inbox))
        options += [(self.deliver_again, n)] * bool(side.heard)
        options += [(self.carry, n)] * (8 * bool(side.jobs))
        options += [(self.land_next, n)] * (8 * bool(side.under_way))
        dead = not self.sides[1 - n].alive and not side.told_lost
        return options + [(self.notice, n)] * (3 * dead)

    # --- the engines ----------------------------------------------------------------------------

    def grant(self, receiver: int, count: int) -> None:
        side = self.sides[receiver]
        if len(side.free) < count:
            return
        self.serials += 1
        pages = [side.free.pop(0) for _ in range(count)]
        name = (f"f{self.serials}", 1)
        side.held[name] = pages
        grant = Grant(
            engine="ab"[receiver],
            epoch=1,
            serial=self.serials,
            flow=name[0],
            attempt=1,
            begin=0,
            end=count * SHAPE.page_size,
            pages=tuple(compress(as_pages(pages))),
            shape=SHAPE,
            address=ADDRESSES[receiver],
            memory=b"",
            lease_s=LEASE_S,
            expires_at=self.now + LEASE_S,
        )
        offer = Offer(
            name, grant.serial, 0, grant.end, as_pages(pages), count * 192, grant.expires_at
        )
        self.perform(receiver, side.ledger.grant(offer))
        self.sides[1 - receiver].offered.append(grant)

    def open_transfer(self, sender: int) -> None:
        side = self.sides[sender]
        grant = side.offered.pop()
        name = (grant.flow, grant.attempt)
        side.open.append(name)
        side.counts[name] = grant.end // SHAPE.page_size
        self.perform(sender, side.ledger.open(grant, self.now))

    def write_layers(self, sender: int, name: Name, layers: int) -> None:
        """Layers from the first on, again where they were written before."""
        side = self.sides[sender]
        side.written[name] = max(layers, side.written.get(name, 0))
        for layer in range(layers):
            write = Write(layer, 0, as_pages(range(side.counts[name])))
            self.perform(sender, side.ledger.write(name, write, self.now))

    def lend(self, sender: int, name: Name) -> None:
        """Pages of its own, which nobody may write while they are lent."""
        side = self.sides[sender]
        count = side.counts[name]
        if len(side.free) < count or name in side.lent:
            return
        side.lent[name] = [side.free.pop(0) for _ in range(count)]
        side.written[name] = SHAPE.num_layers
        self.perform(sender, side.ledger.lend(name, as_pages(side.lent[name]), self.now))

    def end_transfer(self, sender: int, name: Name, how: str) -> None:
        ledger = self.sides[sender].ledger
        if how == "finish":
            self.perform(sender, ledger.finish(name, self.now))
        else:
            self.perform(sender, ledger.abort(name, "aborted", self.now))

    def revoke(self, receiver: int, name: Name) -> None:
        self.perform(receiver, self.sides[receiver].ledger.revoke(name, "revoked", self.now))

    # --- the world ------------------------------------------------------------------------------

    def deliver(self, to: int) -> None:
        side = self.sides[to]
        message = side.inbox.popleft()
        side.heard.append(message)
        self.receive(to, message)

    def deliver_again(self, to: int) -> None:
        """An old message, as late as can be."""
        heard = self.sides[to].heard
        heard.append(heard.pop(0))
        self.receive(to, heard[-1])

    def carry(self, sender: int) -> None:
        """Hand the next job to the network: from here on nobody can take it back."""
        side = self.sides[sender]
        side.under_way.append(side.jobs.popleft())

    def land_next(self, sender: int) -> None:
        """A flush of a dead peer's memory too: it "succeeds" until the death is noticed."""
        side = self.sides[sender]
        job = side.under_way.popleft()
        if isinstance(job, Put | Get):
            self.land(sender, job)
            progressed = side.ledger.progressed(job.transfer, self.now)
            self.perform(sender, progressed)
        else:
            lane = "lane" if job.transfer > 0 else "read"
            self.perform(sender, side.ledger.flushed(job.transfer, lane, self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for n in SIDES:
            if self.sides[n].alive:
                self.perform(n, self.sides[n].ledger.tick(self.now))

    def die(self, n: int) -> None:
        side = self.sides[n]
        side.alive = False
        side.jobs.clear()
        side.under_way.clear()

    def notice(self, n: int) -> None:
        self.sides[n].told_lost = True
        self.lose(n)

    # --- what the shell would do ----------------------------------------------------------------

    def receive(self, to: int, message: AnyProtocolMessage) -> None:
        ledger = self.sides[to].ledger
        self.perform(to, ledger.received(ADDRESSES[1 - to], message, self.now))

    def perform(self, n: int, effects: list[Effect]) -> None:
        for effect in effects:
            self.perform_one(n, effect)

    def perform_one(self, n: int, effect: Effect) -> None:
        side, other = self.sides[n], self.sides[1 - n]
        match effect:
            case Connect():
                if side.told_lost:
                    self.lose(n)
            case Send(_, message):
                if isinstance(message, Open):
                    side.numbers[message.transfer] = (message.flow, message.attempt)
                other.inbox.append(message)
            case Put() | Get() | Flush():
                side.jobs.append(effect)
            case Drop(transfer):
                side.jobs = deque(job for job in side.jobs if job.transfer != transfer)
            case Tell(event):
                self.tell(n, event)

    def lose(self, n: int) -> None:
        """The transport's contract: nothing of ours is under way any more."""
        side = self.sides[n]
        side.jobs.clear()
        side.under_way.clear()
        self.perform(n, side.ledger.lost(ADDRESSES[1 - n]))

    def land(self, n: int, job: Put | Get) -> None:
        here, there = self.sides[n], self.sides[1 - n]
        if isinstance(job, Get):
            assert pages_of(job.runs.reversed()) <= granted(here), "written after the fence"
        if not there.alive:
            return
        if isinstance(job, Put):
            assert pages_of(job.runs) <= granted(there), "written after the fence"
        else:
            lent = {page for pages in there.lent.values() for page in pages}
            assert pages_of(job.runs) <= lent, "read after the lender was told the end"

    def tell(self, n: int, event: TransferEvent) -> None:
        side = self.sides[n]
        self.told[type(event).__name__] += 1
        name = (event.flow, event.attempt)
        received = isinstance(event, Arrived | Fenced)
        end = ("received" if received else "sent", name)
        assert end not in side.ended, "told twice"
        side.ended.add(end)
        if received:
            side.free += side.held.pop(name)
        else:
            side.open.remove(name)
            side.free += side.lent.pop(name, [])
            puts = [job for job in side.under_way if isinstance(job, Put)]
            assert all(p.transfer in self.living(n) for p in puts), "told while we still write"
        if isinstance(event, Arrived):
            side.arrived.add(name)
        if isinstance(event, Delivered) and event.lane != "read":
            assert name in self.sides[1 - n].arrived, "delivered, and it never arrived"

    def living(self, n: int) -> set[int]:
        """Transfers that have not ended."""
        return {
            number for number, name in self.sides[n].numbers.items() if name in self.sides[n].open
        }

    # --- the end --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let everything take its course: then nothing is held, and nothing is open."""
        for n in SIDES:
            if self.sides[n].alive and not self.sides[1 - n].alive:
                self.notice(n)
        for _ in range(6):
            self.settle()
            self.pass_time(31.0)
        for side in self.sides:
            if side.alive:
                assert not side.held, "a grant without an end"
                assert not side.open, "a transfer without an end"
                assert not side.lent, "lent pages that nobody gave back"
                assert sorted(side.free) == list(range(SHAPE.num_pages))
                assert side.ledger.deadline() is None
                assert side.ledger.num_receiving == side.ledger.num_sending == 0

    def settle(self) -> None:
        """Until nothing is under way."""
        while any([self.run_once(n) for n in SIDES if self.sides[n].alive]):  # noqa: C419
            pass

    def run_once(self, n: int) -> bool:
        side = self.sides[n]
        for waiting, act in (
            (side.inbox, self.deliver),
            (side.jobs, self.carry),
            (side.under_way, self.land_next),
        ):
            if waiting:
                act(n)
                return True
        return False


def granted(side: Side) -> set[int]:
    return {page for pages in side.held.values() for page in pages}


def pages_of(runs: Runs) -> set[int]:
    """The pages, of any layer, that these runs write."""
    pages: set[int] = set()
    for offset, size in zip(runs.remote.tolist(), runs.num_bytes.tolist(), strict=True):
        first = offset // SHAPE.page_bytes
        pages |= {p % SHAPE.num_pages for p in range(first, first + size // SHAPE.page_bytes)}
    return pages
