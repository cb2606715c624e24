"""What the cores of the actors want done. Their shells do it, and tell them how it went."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bus.messages import Order
from observability.spans import Span

from .recording import Recording
from .versions import Ref


class Send(Struct, frozen=True):
    """Give an order to its engine and have the acceptance; a failure comes back as an event."""

    order: Order
    headers: dict[str, str]


class Publish(Struct, frozen=True, gc=False):
    """Publish one message. Nobody waits for it."""

    subject: str
    payload: bytes


class Record(Struct, frozen=True):
    """Keep these finished spans."""

    spans: tuple[Span, ...]


class Keep(Struct, frozen=True):
    """Keep what happened to a flow, so that it can be played again."""

    recording: Recording


class Withdraw(Struct, frozen=True):
    """A version of a strategy failed in service: take it out everywhere, and say why."""

    ref: Ref
    reason: str


Effect: TypeAlias = Send | Publish | Record | Keep | Withdraw
