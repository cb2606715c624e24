"""One transfer that this engine sends: what of it was written, and how long it may wait."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bus.transfers import Delivered, PoolShape

from .effects import Name
from .grants import Grant
from .layout import Offsets, Runs, check_pages
from .protocol import Taken
from .relaying import runs_between
from .transport import PeerId, peer_id


class State(enum.Enum):
    """As the picture in `kvtransport.steps` has them."""

    OPENING = enum.auto()
    WRITING = enum.auto()
    FINISHING = enum.auto()
    COMPLETING = enum.auto()
    STOPPING = enum.auto()
    LENDING = enum.auto()
    RECALLING = enum.auto()
    ENDED = enum.auto()


_FLUSHING = (State.FINISHING, State.STOPPING)
STARTING = (State.OPENING, State.WRITING)
REFUSABLE = (State.OPENING, State.COMPLETING, State.LENDING, State.RECALLING)


class Home(Struct, frozen=True):
    """Where our transport can be reached, and how peers find their way in our pool."""

    address: bytes
    memory: bytes
    """What lets a peer read and write it."""
    shape: PoolShape
    checked: bool = False
    """Whether all that is sent has checksums."""


class Write(Struct, frozen=True, eq=False):
    """One layer of some of our pages, for the granted pages number ``first`` and following."""

    layer: int
    first: int
    pages: Offsets


@dataclass(slots=True, eq=False)
class Outgoing:
    serial: int
    grant: Grant
    remote: Offsets
    """The granted pages, in order."""
    pages: Offsets
    """Ours, in order; -1 where nothing was written yet."""
    missing: NDArray[np.bool_]
    """[layer, page of ours]: what was not written yet. Ours are as many as were granted, where
    both have the same size."""
    progressed_at: float
    renewed_at: float
    state: State = State.OPENING
    waiting: list[Runs] = field(default_factory=list)
    """Writes that came before we were let in."""
    wants_finish: bool = False
    lent: Offsets | None = None
    """Our pages, where the receiver is to read them."""
    reason: str = ""
    begun_at: float | None = None
    finished_at: float = 0.0
    num_bytes: int = 0
    num_runs: int = 0
    write_s: float = 0.0
    lane: str = ""
    landed: bool = False
    """Everything was written, and the flush has ended."""
    sums: bytes = b""
    """Of our pages, once they are known."""
    taken: Taken | None = None
    """What the reader said, where we have no sums yet to compare its own with."""

    @property
    def num_tokens(self) -> int:
        return self.grant.end - self.grant.begin

    @property
    def name(self) -> Name:
        return self.grant.flow, self.grant.attempt

    @property
    def peer(self) -> PeerId:
        return peer_id(self.grant.address)

    @property
    def ids(self) -> tuple[int, int]:
        return self.grant.serial, self.serial

    @property
    def renewal(self) -> float:
        """When the receiver's lease is to be renewed, because there was progress since."""
        if self.lent is None and self.progressed_at > self.renewed_at:
            return self.renewed_at + self.grant.lease_s / 2
        return math.inf

    @property
    def stall(self) -> float:
        """When to give up waiting, or to ask again. Never for a flush: it ends, or the peer is
        lost."""
        return math.inf if self.state in _FLUSHING else self.progressed_at + self.grant.lease_s

    def runs(self, shape: PoolShape, write: Write) -> Runs:
        """What the write copies from our pool of ``shape``; noted as written.

        Raises:
            ValueError: it has pages or a layer that there are not.
        """
        layers, granted = self.missing.shape
        first, end = write.first, write.first + len(write.pages)
        if not (0 <= write.layer < layers and 0 <= first <= end <= granted):
            raise ValueError(
                f"layer {write.layer}, granted pages [{first}, {end}) were to be written; there are"
                f" {layers} layers and {granted} granted pages"
            )
        check_pages(shape, write.pages)
        self.missing[write.layer, first:end] = False
        self.pages[first:end] = write.pages
        pages = write.pages, self.remote
        return runs_between(shape, self.grant.shape, write.layer, first, pages)

    def check_loan(self, shape: PoolShape, pages: Offsets) -> None:
        """
        Raises:
            ValueError: ``pages`` of our pool cannot be lent for what was granted.
        """
        if not self.missing.all():
            raise ValueError("pages were to be lent, and some were written already")
        if len(pages) != self.missing.shape[1]:
            raise ValueError(f"{len(pages)} pages lent for {self.missing.shape[1]} granted ones")
        check_pages(shape, pages)

    def delivered(self, now: float) -> Delivered:
        begun_at = self.finished_at if self.begun_at is None else self.begun_at
        return Delivered(
            *self.name,
            num_bytes=self.num_bytes,
            num_runs=self.num_runs,
            seconds=now - begun_at,
            exposed_s=now - self.finished_at,
            lane=self.lane,
            write_s=self.write_s,
        )
