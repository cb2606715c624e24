"""What surrounds the ledgers: effects carried out, bytes that land, and who owns each page."""

from __future__ import annotations

from msgspec import Struct

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed, TransferEvent
from kvtransport.effects import Connect, Drop, Effect, Flush, Get, Put, Send, Sum, Tell
from kvtransport.ledger import Ledger

from .walk_ledgers import fork
from .walk_values import (
    ADDRESSES,
    GARBAGE,
    LOSS,
    Bound,
    Job,
    Make,
    Name,
    R,
    Right,
    S,
    Sending,
    Side,
    Violation,
)


class Shells(Struct):
    """Checks at every step that nobody does with a page what is not theirs to do."""

    sides: list[Side]
    now: int
    bound: Bound
    make: Make
    faults: int
    grants: int
    """That may still be made."""
    attempt: int = 1
    granted: tuple[Name, Right] | None = None
    """Whom the receiver's page is reserved for."""
    cached: bool = False
    """Whether it holds a context that arrived; otherwise, not granted, it is free."""
    content: tuple[Right, ...] = ()
    """Of the receiver's page, layer by layer."""
    sending: tuple[Sending, ...] = ()
    in_hand: tuple[tuple[Right, float, bytes], ...] = ()
    """Grants that the router has and did not pass on: (right, expiry, the sealed grant)."""
    passed_on: tuple[tuple[Right, float, bytes], ...] = ()

    def own(self, n: int) -> Ledger:
        """The side's ledger, which from now on is nobody else's."""
        side = self.sides[n]
        assert side.ledger is not None
        side.ledger, side.known = fork(side.ledger, ("_sender", "_receiver")[n]), None
        return side.ledger

    def _sums(self, job: Job) -> bytes:
        """Of what a page holds; of what it should hold, where it is the sender's."""
        if job.reads:
            return repr(self.content).encode()
        right = next(s.right for s in self.sending if s.serial == job.number)
        return repr((right,) * self.bound.layers).encode()

    def _land_put(self, job: Job) -> None:
        there = self.sides[R]
        if LOSS in self.sides[S].inbox or there.ledger is None or there.epoch != job.epoch:
            return  # into nothing
        right = next(s.right for s in self.sending if s.serial == job.number)
        if self.granted is None or self.granted[1] != right:
            raise Violation(f"a put of {right} lands in a page of {self.granted}")
        self._fill(job.layer, right)

    def _land_get(self, job: Job) -> None:
        here, there = self.sides[R], self.sides[S]
        right = here.epoch, job.number
        if self.granted is None or self.granted[1] != right:
            raise Violation(f"a get of {right} lands in a page of {self.granted}")
        lent = any(s.lent and s.right == right for s in self.sending)
        if LOSS in here.inbox or there.ledger is None or there.epoch != job.epoch:
            self._fill(job.layer, GARBAGE)  # nobody keeps the page for us any more
        elif not lent:
            raise Violation(f"a get of {right} reads a page that is not lent")
        else:
            self._fill(job.layer, right)

    def _fill(self, layer: int, right: Right) -> None:
        self.content = (*self.content[:layer], right, *self.content[layer + 1 :])

    # --- what the engines' shells do ------------------------------------------------------------

    @property
    def shape(self) -> PoolShape:
        return PoolShape(self.bound.layers, 1, 1, 8, "walk")

    def perform(self, n: int, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform(n, effect)

    def _perform(self, n: int, effect: Effect) -> None:
        side, other = self.sides[n], self.sides[1 - n]
        match effect:
            case Connect():
                if other.ledger is None and LOSS not in side.inbox:
                    self.lose(n)
            case Send(message=message):
                if LOSS not in side.inbox and other.ledger is not None:
                    other.inbox += (message,)
            case Put() | Get() | Flush():
                side.outbox += (self._job(effect),)
            case Sum():
                side.sums += (self._job(effect),)
            case Drop(transfer):
                side.outbox = tuple(job for job in side.outbox if job.transfer != transfer)
                side.sums = tuple(job for job in side.sums if job.transfer != transfer)
            case Tell(event):
                self._told(n, event)

    def _job(self, effect: Put | Get | Flush | Sum) -> Job:
        if isinstance(effect, Flush | Sum):
            return Job(type(effect), abs(effect.transfer), effect.transfer < 0, 0, 0)
        offsets = effect.runs.remote if isinstance(effect, Put) else effect.runs.local
        layer = int(offsets[0]) // self.shape.page_bytes
        reads = isinstance(effect, Get)
        return Job(type(effect), abs(effect.transfer), reads, layer, effect.memory[0])

    def lose(self, n: int) -> None:
        """As a transport promises: nothing of ours is under way, or comes any more."""
        side = self.sides[n]
        side.outbox, side.under_way, side.late = (), (), ()
        self.perform(n, self.own(n).lost(ADDRESSES[1 - n]))

    def _told(self, n: int, event: TransferEvent) -> None:
        name = event.flow, event.attempt
        if isinstance(event, Arrived | Fenced):
            if n != R or self.granted is None or self.granted[0] != name:
                raise Violation(f"{event} of a page of {self.granted}")
            self._released(event)
            return
        ended = [s for s in self.sending if s.name == name]
        if n != S or not ended:
            raise Violation(f"{event} of a transfer that has ended")
        self._ended(ended[0], event)

    def _released(self, event: Arrived | Fenced) -> None:
        assert self.granted is not None
        if isinstance(event, Fenced):
            self.attempt += 1
        elif set(self.content) != {self.granted[1]}:
            raise Violation(f"{event} of a page that holds {self.content}")
        else:
            self.cached = True
        self.granted = None

    def _ended(self, sending: Sending, event: Delivered | SendFailed) -> None:
        self.sending = tuple(s for s in self.sending if s is not sending)
        side, receiver = self.sides[S], self.sides[R]
        if any(job.kind is Put and job.number == sending.serial for job in side.under_way):
            raise Violation(f"{event}, and the page is still read")
        unbroken = LOSS not in side.inbox and receiver.epoch == sending.right[0]
        if isinstance(event, Delivered) and not sending.lent and unbroken and not self.cached:
            raise Violation(f"{event}, and it never arrived")
