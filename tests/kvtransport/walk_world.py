"""One page run, two engines and a router, as a value: every state in which a transfer can be.

The engines' ledgers are the production ones. Everything around them is the least that keeps the
promises of `kvtransport.transport` and `bus.wire`, and checks who owns each page:

* the receiver has one page. It is free, granted (to one grant), or cached with what arrived;
* the sender has one page, cached all the time; it may be written over while no transfer holds it;
* the router has each grant once, hands it to the sender, and prepares again what was fenced.

Between the engines are two channels of messages; puts, gets and flushes of an engine first wait in
its outbox and are then under way, where nobody can take them back. A loss of the connection stands
in both channels behind what was said before it, as a transport tells it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, TypeAlias

from msgspec import Struct

from bus.transfers import Arrived, Delivered, Fenced, PoolShape, SendFailed, TransferEvent
from bus.wire import GrantRefused
from kvtransport import grants
from kvtransport.effects import Connect, Drop, Effect, Flush, Get, Put, Send, Sum, Tell
from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.layout import as_pages
from kvtransport.ledger import Ledger
from kvtransport.outgoing import Write
from kvtransport.protocol import AnyProtocolMessage, Open

from .walk_ledgers import HALF_LEASE_S, LEASE_S, fork, key_of

R, S = 0, 1
ADDRESSES: Final = (b"R" * 16, b"S" * 16)
KEY: Final = b"the fleet's secret"
PAGES: Final = as_pages([0])
Name: TypeAlias = tuple[str, int]
Right: TypeAlias = tuple[int, int]
"""(epoch, serial) of a grant; also what a layer holds that was written with it."""
GARBAGE: Final = (0, 0)
LOSS: Final = "loss"
"""In a channel: the connection broke here."""
Make: TypeAlias = Callable[[int, int, PoolShape], Ledger]
"""The ledger of an engine, R or S, in this epoch of its life."""


class Violation(AssertionError):
    """The protocol let happen what must not."""


class Bound(Struct, frozen=True):
    """How far the walk goes."""

    faults: int
    grants: int = 2
    layers: int = 1
    checked: bool = False
    """Whether everything has checksums, and a fault may change what is in a page."""


class Job(Struct, frozen=True):
    kind: type[Put] | type[Get] | type[Flush] | type[Sum]
    number: int
    """Of the transfer, or of the grant that is read for."""
    reads: bool
    layer: int
    epoch: int
    """Of the memory that is written or read."""

    @property
    def transfer(self) -> int:
        """As the ledger numbers it."""
        return -self.number if self.reads else self.number


class Sending(Struct, frozen=True):
    """A transfer that has not ended, as the sender's engine remembers it."""

    name: Name
    serial: int
    """Of the transfer."""
    right: Right
    layers: int = 0
    """That were written; all of them also where the page was lent."""
    lent: bool = False
    closed: bool = False
    """Finished, lent or aborted."""


class Side(Struct):
    """An engine: its ledger, what it has been sent, and what it has still to write or read."""

    ledger: Ledger | None
    epoch: int = 1
    serial: int = 0
    """Of its last grant."""
    inbox: tuple[AnyProtocolMessage | str, ...] = ()
    late: tuple[AnyProtocolMessage, ...] = ()
    """Copies, or delayed: they come when they like, as long as the connection holds."""
    outbox: tuple[Job, ...] = ()
    under_way: tuple[Job, ...] = ()
    sums: tuple[Job, ...] = ()
    """To be made; they can be dropped until they are."""
    known: tuple[int, Hashable] | None = None
    """The ledger's key, and when it was made."""

    def key(self, now: int) -> Hashable:
        if self.ledger and (self.known is None or self.known[0] != now):
            self.known = now, key_of(self.ledger, now)
        return (
            self.known and self.known[1],
            self.epoch,
            self.serial,
            self.inbox,
            self.late,
            self.outbox,
            self.under_way,
            self.sums,
        )


class World(Struct):
    """`fork` it before it is changed."""

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

    # --- as a value -----------------------------------------------------------------------------

    def fork(self) -> World:
        new = World(*(getattr(self, name) for name in self.__struct_fields__))
        new.sides = [Side(*(getattr(s, n) for n in s.__struct_fields__)) for s in self.sides]
        return new

    def own(self, n: int) -> Ledger:
        """The side's ledger, which from now on is nobody else's."""
        side = self.sides[n]
        assert side.ledger is not None
        side.ledger, side.known = fork(side.ledger), None
        return side.ledger

    def key(self) -> Hashable:
        """All that the future depends on, with times counted from now."""
        sides = tuple(side.key(self.now) for side in self.sides)
        grants_ = tuple(
            tuple((right, max(at - self.now, 0)) for right, at, _ in some)
            for some in (self.in_hand, self.passed_on)
        )
        counts = self.faults, self.grants, self.attempt
        return sides, grants_, counts, self.granted, self.cached, self.content, self.sending

    # --- what engines and router do -------------------------------------------------------------

    def prepare(self) -> None:
        """`PrepRecv`: the receiver reserves its page and grants it."""
        side, shape = self.sides[R], self.shape
        self.grants -= 1
        side.serial += 1
        serial, name = side.serial, ("f", self.attempt)
        right = side.epoch, serial
        self.granted, self.content = (name, right), (GARBAGE,) * shape.num_layers
        expires_at = float(self.now + LEASE_S)
        grant = Grant(
            engine="r",
            epoch=side.epoch,
            serial=serial,
            flow=name[0],
            attempt=name[1],
            begin=0,
            end=1,
            pages=((0, 1),),
            shape=shape,
            address=ADDRESSES[R],
            memory=bytes([side.epoch]),
            lease_s=LEASE_S,
            expires_at=expires_at,
            checked=self.bound.checked,
        )
        self.in_hand += ((right, expires_at, grants.seal(grant, KEY)),)
        offer = Offer(name, serial, 0, 1, PAGES, 0, expires_at, self.bound.checked)
        self.perform(R, self.own(R).grant(offer))

    def order(self, index: int, again: bool = False) -> None:
        """`RemoteSend`: the router hands a grant to the sender, once or again."""
        held = self.passed_on[index] if again else self.in_hand[index]
        if not again:
            self.in_hand = self.in_hand[:index] + self.in_hand[index + 1 :]
            self.passed_on += (held,)
        try:
            grant = grants.unseal(held[2], KEY, self.now)
        except GrantRefused:
            return
        if any(s.name == (grant.flow, grant.attempt) for s in self.sending):
            return  # the courier refuses: this name is in use
        effects = self.own(S).open(grant, self.now)
        opens = (e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Open))
        name = grant.flow, grant.attempt
        self.sending += tuple(Sending(name, o.transfer, (o.epoch, o.grant)) for o in opens)
        self.perform(S, effects)

    def write(self, sending: Sending) -> None:
        self._replace(sending, layers=sending.layers + 1)
        write = Write(sending.layers, 0, PAGES)
        self.perform(S, self.own(S).write(sending.name, write, self.now))

    def finish(self, sending: Sending) -> None:
        self._replace(sending, closed=True)
        self.perform(S, self.own(S).finish(sending.name, self.now))

    def lend(self, sending: Sending) -> None:
        self._replace(sending, layers=self.bound.layers, lent=True, closed=True)
        self.perform(S, self.own(S).lend(sending.name, PAGES, self.now))

    def abort(self, sending: Sending) -> None:
        self._replace(sending, closed=True)
        self.perform(S, self.own(S).abort(sending.name, "aborted", self.now))

    def revoke(self) -> None:
        assert self.granted is not None
        self.perform(R, self.own(R).revoke(self.granted[0], "revoked", self.now))

    def _replace(self, sending: Sending, **changed: object) -> None:
        fields = {name: getattr(sending, name) for name in sending.__struct_fields__}
        new = Sending(**{**fields, **changed})
        self.sending = tuple(new if s is sending else s for s in self.sending)

    # --- what the network and time do -----------------------------------------------------------

    def deliver(self, n: int) -> None:
        side = self.sides[n]
        message, side.inbox = side.inbox[0], side.inbox[1:]
        if isinstance(message, str):
            self.lose(n)
        else:
            self.receive(n, message)

    def deliver_late(self, n: int) -> None:
        side = self.sides[n]
        message, side.late = side.late[0], side.late[1:]
        self.receive(n, message)

    def receive(self, n: int, message: AnyProtocolMessage) -> None:
        self.perform(n, self.own(n).received(ADDRESSES[1 - n], message, self.now))

    def carry(self, n: int) -> None:
        side = self.sides[n]
        side.under_way += side.outbox[:1]
        side.outbox = side.outbox[1:]

    def land(self, n: int) -> None:
        side = self.sides[n]
        job, side.under_way = side.under_way[0], side.under_way[1:]
        if job.kind is Flush:
            self.perform(n, self.own(n).flushed(job.transfer, "lane", self.now))
            return
        if job.kind is Put:
            self._land_put(job)
        else:
            self._land_get(job)
        self.perform(n, self.own(n).progressed(job.transfer, self.now))

    def sum_up(self, n: int) -> None:
        side = self.sides[n]
        job, side.sums = side.sums[0], side.sums[1:]
        self.perform(n, self.own(n).summed(job.transfer, self._sums(job), self.now))

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

    def tick(self, n: int) -> None:
        self.perform(n, self.own(n).tick(self.now))

    def pass_time(self) -> None:
        self.now += HALF_LEASE_S

    # --- faults ---------------------------------------------------------------------------------

    def drop(self, n: int) -> None:
        self.sides[n].inbox = self.sides[n].inbox[1:]

    def delay(self, n: int) -> None:
        self.duplicate(n)
        self.drop(n)

    def duplicate(self, n: int) -> None:
        side = self.sides[n]
        message = side.inbox[0]
        assert not isinstance(message, str)
        side.late += (message,)

    def corrupt(self, n: int) -> None:
        """What lands is not what was sent."""
        layer = self.sides[n].under_way[0].layer
        self.land(n)
        self._fill(layer, GARBAGE)

    def sever(self) -> None:
        """Both live on; what was said before may still arrive."""
        for side in self.sides:
            side.inbox += (LOSS,)

    def crash(self, n: int) -> None:
        epoch = self.sides[n].epoch
        self.sides[n] = Side(None, epoch)
        if self.sides[1 - n].ledger is not None:
            self.sides[1 - n].inbox += (LOSS,)
        if n == R:
            self.granted, self.cached = None, False
        else:
            self.sending = ()

    def restart(self, n: int) -> None:
        side = self.sides[n]
        side.epoch += 1
        side.ledger = self.make(n, side.epoch, self.shape)

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
