"""One engine's end of the KV data path: `bus.wire.Wire` over a `Transport`.

The ledger decides, the clerk carries out what it wants on the transport's thread. The methods of
`Wire` may be called from any thread and hand their work over to that one; ``on_event`` is called
from it and must not block.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from msgspec import Struct

from bus.transfers import PoolShape, TransferEvent
from bus.wire import GrantRefused

from . import grants
from .clerk import Clerk, Means
from .effects import Effect, Name
from .granted import Offer
from .grants import Grant
from .layout import as_pages, check_pages, compress
from .ledger import Ledger
from .opening import Life
from .outgoing import Home, Write
from .pacing import Limited, Pace, Unlimited
from .receiving import Receiver
from .sending import Sender
from .staging import STAGING_BYTES
from .tally import CourierStatistics, Tally
from .transport import Transport, TransportClosed

_CLOSING = "the engine is closing"
_CLOSING_S = 1.0
"""How long `Courier.close` waits for peers to stop writing."""


class CourierConfig(Struct, frozen=True):
    engine: str
    epoch: int
    shape: PoolShape
    key: bytes
    """The fleet's secret: who has it can make grants that others honour."""
    lease_s: float = 30.0
    """A grant that nobody opens, and a transfer without progress, end after this long."""
    checksums: bool = False
    """Whether whatever we send and receive is checked before it is used."""
    max_bytes_per_s: float | None = None
    """What it writes and reads at most, all transfers together; None: as fast as it can."""

    def pace(self, clock: Callable[[], float]) -> Pace:
        return Unlimited() if self.max_bytes_per_s is None else Limited(self.max_bytes_per_s, clock)


def steady_clock() -> Callable[[], float]:
    """Unix seconds that never jump: the time of day now, carried on by the monotonic clock."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class Courier:
    """Raises nothing for what peers do: every grant and transfer ends in its event.

    `close` ends all that is open, so that each still gets its event, and is idempotent; the methods
    of `Wire` then raise `TransportClosed`. The buffer's memory lives as long as a view of it.
    """

    def __init__(
        self,
        config: CourierConfig,
        transport: Transport,
        clock: Callable[[], float],
        on_event: Callable[[TransferEvent], None],
    ) -> None:
        """Allocates the pool and starts the transport's thread; ``clock`` gives unix seconds."""
        self._config, self._transport = config, transport
        self._clock, self._on_event = clock, on_event
        num_bytes = config.shape.num_bytes
        block = transport.allocate(num_bytes + STAGING_BYTES)
        self.buffer = block[:num_bytes]
        """The pool, writable: ``shape.num_bytes`` bytes, zeroed."""
        life = Life(config.engine, config.epoch)
        home = Home(transport.address, transport.memory, config.shape, config.checksums)
        self._ledger = Ledger(Receiver(life, config.lease_s, config.shape), Sender(home))
        memory = np.frombuffer(block, np.uint8)
        means = Means(transport, memory, config.shape, config.pace(clock))
        self._clerk = Clerk(self._ledger, means, clock, self._tell)
        self._serials = itertools.count(1)
        self._tally = Tally()
        self._closed = False
        transport.start(self._clerk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- Wire, on any thread --------------------------------------------------------------------

    def grant(self, flow: str, attempt: int, begin: int, end: int, pages: Sequence[int]) -> bytes:
        """As `Wire.grant`. Raises ValueError where the range, pages or name cannot be granted."""
        shape, granted = self._config.shape, as_pages(pages)
        grants.check_range(shape, begin, end, len(granted))
        check_pages(shape, granted)
        self._tally.claim((flow, attempt))
        grant = Grant(
            engine=self._config.engine,
            epoch=self._config.epoch,
            serial=next(self._serials),
            flow=flow,
            attempt=attempt,
            begin=begin,
            end=end,
            pages=tuple(compress(granted)),
            shape=shape,
            address=self._transport.address,
            memory=self._transport.memory,
            lease_s=self._config.lease_s,
            expires_at=self._clock() + self._config.lease_s,
            checked=self._config.checksums,
        )
        num_bytes = len(granted) * shape.num_layers * shape.page_bytes
        offer = Offer(
            (flow, attempt),
            grant.serial,
            begin,
            end,
            granted,
            num_bytes,
            grant.expires_at,
            grant.checked,
        )
        self._hand_over("granted", (flow, attempt), lambda: self._ledger.grant(offer))
        return grants.seal(grant, self._config.key)

    def revoke(self, flow: str, attempt: int) -> None:
        self._call(lambda: self._ledger.revoke((flow, attempt), "revoked", self._clock()))

    def open(self, flow: str, attempt: int, grant: bytes, begin: int, end: int) -> None:
        """As `Wire.open`; also refused, ``out_of_order``, while the name is in use here."""
        try:
            opened = self._check(flow, attempt, grant, begin, end)
        except GrantRefused:
            self._tally.count("refused")
            raise
        self._hand_over("opened", (flow, attempt), lambda: self._ledger.open(opened, self._clock()))

    def write(self, flow: str, attempt: int, layer: int, first: int, pages: Sequence[int]) -> None:
        """As `Wire.write`. Pages or a layer out of bounds end the transfer in `SendFailed`."""
        write = Write(layer, first, as_pages(pages))
        self._call(lambda: self._ledger.write((flow, attempt), write, self._clock()))

    def finish(self, flow: str, attempt: int) -> None:
        """As `Wire.finish`. `SendFailed` where a granted page was not written in every layer."""
        self._call(lambda: self._ledger.finish((flow, attempt), self._clock()))

    def lend(self, flow: str, attempt: int, pages: Sequence[int]) -> None:
        """As `Wire.lend`. `SendFailed` where they are not as many as were granted."""
        lent = as_pages(pages)
        self._call(lambda: self._ledger.lend((flow, attempt), lent, self._clock()))

    def abort(self, flow: str, attempt: int) -> None:
        self._call(lambda: self._ledger.abort((flow, attempt), "aborted", self._clock()))

    def statistics(self) -> CourierStatistics:
        clerk, transport = self._clerk, self._transport.statistics()
        return self._tally.statistics(clerk.bad_messages, clerk.failed, transport)

    def close(self) -> None:
        """Stop everything, wait up to a second for peers that still write, join the thread."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(TransportClosed):  # it may have died before us
            self._transport.call(lambda: self._clerk.stop(_CLOSING))
            self._clerk.settled.wait(_CLOSING_S)
            self._call(lambda: self._ledger.abandon(_CLOSING))
        self._transport.close()

    def _check(self, flow: str, attempt: int, sealed: bytes, begin: int, end: int) -> Grant:
        grant = grants.unseal(sealed, self._config.key, self._clock())
        grants.check(grant, self._config.shape, begin, end)
        if (grant.flow, grant.attempt) != (flow, attempt):
            raise GrantRefused(
                "stale_attempt",
                f"the grant is for attempt {grant.attempt} of flow {grant.flow!r}, and attempt"
                f" {attempt} of {flow!r} was to be sent",
            )
        try:
            self._tally.claim((flow, attempt))
        except ValueError as error:
            raise GrantRefused("out_of_order", str(error)) from None
        return grant

    def _hand_over(self, what: str, name: Name, decide: Callable[[], list[Effect]]) -> None:
        try:
            self._call(decide)
        except TransportClosed:
            self._tally.release(name)
            raise
        self._tally.count(what)

    def _call(self, decide: Callable[[], list[Effect]]) -> None:
        self._transport.call(lambda: self._clerk.carry_out(decide()))

    # --- how it ends, on the transport's thread --------------------------------------------------

    def _tell(self, event: TransferEvent) -> None:
        self._tally.ended(event)
        self._on_event(event)
