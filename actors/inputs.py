"""What a router's core hears."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bus.messages import Beat, CacheChanged, Order, Progress, Refused, Report, Request
from bus.moves import Watching
from observability.spans import SpanContext

from .catalog import Found
from .versions import Activation, Ref


class Asked(Struct, frozen=True):
    """A user's request, admitted. ``flow`` is a new random id of 32 hexadecimal digits."""

    flow: str
    model: str
    request: Request
    orchestration: str | None = None
    timeout_s: float | None = None
    tag: str = ""
    parent: SpanContext | None = None
    user: str = ""
    """Among whom turns are taken; empty is everybody who did not say."""


class Undelivered(Struct, frozen=True):
    """An order did not reach its engine (``refusal`` None), or was turned down at the door."""

    order: Order
    refusal: Refused | None = None


class Withdrawn(Struct, frozen=True):
    """The user does not want the answer any more."""

    flow: str


class Wished(Struct, frozen=True):
    """An operator wants a flow to go on at another engine."""

    flow: str
    engine: str


class Ticked(Struct, frozen=True):
    """Time has passed."""


class Loaded(Struct, frozen=True):
    """A version is here; nobody is served by it before it is activated."""

    found: Found


class Unloadable(Struct, frozen=True):
    """A version cannot be used here."""

    ref: Ref
    reason: str


class Activated(Struct, frozen=True):
    """From now on this serves the new flows of a slot; None: what is installed does."""

    slot: str | None
    activation: Activation | None


RouterInput: TypeAlias = (
    Asked
    | Report
    | Progress
    | Beat
    | CacheChanged
    | Undelivered
    | Withdrawn
    | Wished
    | Ticked
    | Loaded
    | Unloadable
    | Activated
    | Watching
)
