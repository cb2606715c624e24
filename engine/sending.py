"""A prefill whose pages are written into another engine's, layer by layer as they are computed."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from bus.messages import Sent
from bus.transfers import Delivered
from bus.wire import Wire

from .context import Context
from .runner import Choice
from .sequence import Sequence


class Route(Struct, frozen=True):
    """Where the pages go: the transfer's name, and which tokens of the prompt it covers."""

    flow: str
    attempt: int
    begin: int
    """A multiple of the page size: the granted pages begin with this token's."""
    end: int
    page_size: int

    @property
    def first_page(self) -> int:
        return self.begin // self.page_size

    def complete_pages(self, num_tokens: int) -> int:
        """How many pages of the sequence will not change once it has that many tokens."""
        if num_tokens == self.end:
            return -(-num_tokens // self.page_size)
        return num_tokens // self.page_size


class Sending(Sequence):
    """Prefills ``prompt[:end]`` and sends ``[begin, end)``.

    Has all its pages from admission on and keeps them until the transfer has ended, since the
    transport reads them.
    """

    verb: ClassVar[str] = "RemoteSend"
    preemptible: ClassVar[bool] = False

    def __init__(self, context: Context, route: Route, wire: Wire, now: float) -> None:
        super().__init__((route.flow, route.attempt), context, now)
        self._route, self._wire = route, wire
        self._num_written = route.first_page
        """Pages of the sequence, from its start, that need no writing any more."""
        self._is_lent = False
        self.matched = 0
        self.aborted = False
        """Nobody waits for it; its pages are free once the transport reads them no more."""

    @property
    def num_matchable(self) -> int:
        return self.context.num_tokens

    def room_at_admission(self, chunk: int) -> int:
        return self.context.num_tokens

    def choices(self, begin: int, end: int) -> tuple[Choice, ...]:
        return ()

    def begin(self, num_layers: int) -> None:
        """It has its pages. What the cache had is sent in all layers; where that is everything,
        the receiver reads it."""
        self.matched = self.context.num_computed
        if self.context.num_pending == 0:
            self._lend()
        else:
            self._write_matched(num_layers)

    def _lend(self) -> None:
        self._is_lent, self._num_written = True, self._route.complete_pages(self.matched)
        pages: list[int] = self.context.table[self._route.first_page : self._num_written].tolist()
        self._wire.lend(*self.key, pages)

    def _write_matched(self, num_layers: int) -> None:
        for layer in range(num_layers):
            self.write(layer, self.matched)
        self.written(self.matched)

    def write(self, layer: int, num_tokens: int) -> None:
        """Send one layer of the pages that are complete with the first ``num_tokens`` tokens."""
        end = self._route.complete_pages(num_tokens)
        if end > self._num_written:
            first = self._num_written - self._route.first_page
            pages: list[int] = self.context.table[self._num_written : end].tolist()
            self._wire.write(*self.key, layer, first, pages)

    def written(self, num_tokens: int) -> None:
        """All layers of those pages were sent."""
        end = self._route.complete_pages(num_tokens)
        self._num_written = max(self._num_written, end)

    def finish(self) -> None:
        if not self._is_lent:
            self._wire.finish(*self.key)

    def abort(self) -> None:
        self.aborted = True
        self._wire.abort(*self.key)

    def sent(self, event: Delivered, now: float) -> Sent:
        self.trail.add(
            "transfer",
            now - event.seconds,
            now,
            bytes=event.num_bytes,
            pages=self._num_written - self._route.first_page,
            runs=event.num_runs,
            lane=event.lane,
            seconds=event.seconds,
            exposed_s=event.exposed_s,
            write_s=event.write_s,
        )
        return Sent(
            num_bytes=event.num_bytes,
            seconds=event.seconds,
            lane=event.lane,
            exposed_s=event.exposed_s,
            matched=self.matched,
            num_pages=self._num_written - self._route.first_page,
            num_runs=event.num_runs,
            write_s=event.write_s,
        )
