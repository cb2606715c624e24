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

import copy
from collections.abc import Hashable

from bus.wire import GrantRefused
from kvtransport import grants
from kvtransport.effects import Flush, Put, Send
from kvtransport.granted import Offer
from kvtransport.grants import Grant
from kvtransport.outgoing import Write
from kvtransport.protocol import AnyProtocolMessage, Open

from .walk_ledgers import HALF_LEASE_S, LEASE_S
from .walk_shells import Shells
from .walk_values import ADDRESSES, GARBAGE, KEY, LOSS, PAGES, R, S, Sending, Side


class World(Shells):
    """`fork` it before it is changed."""

    # --- as a value -----------------------------------------------------------------------------

    def fork(self) -> World:
        new = copy.copy(self)
        new.sides = [copy.copy(side) for side in self.sides]
        return new

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
