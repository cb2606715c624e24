"""What is checked before a writer is let in, and before pages that were lent are read."""

from __future__ import annotations

from msgspec import Struct

from bus.messages import Reason
from bus.transfers import PoolShape

from .fitting import differences
from .granted import Fencing, Granted, Offer, State, Writer
from .layout import Runs, expand, num_pages_of
from .protocol import Lend, Open, Refuse
from .relaying import cast_for, runs_between


class Life(Struct, frozen=True):
    """Which engine this is, and which time it was started."""

    engine: str
    epoch: int


def refusal(life: Life, state: State | None, message: Open, writer: Writer) -> Refuse | None:
    """Why the writer may not use the grant whose state that is; None where it may, if the grant has
    not expired."""

    def refuse(reason: Reason, text: str) -> Refuse:
        return Refuse(message.grant, message.transfer, reason, text)

    if (message.engine, message.epoch) != (life.engine, life.epoch):
        return refuse(
            "stale_epoch",
            f"the grant is of engine {message.engine!r} in epoch {message.epoch}; this is"
            f" {life.engine!r} in epoch {life.epoch}",
        )
    if state is None or isinstance(state, Fencing):
        return refuse("no_such_flow", "the grant has ended: it was used, revoked or expired")
    offer = state.offer
    if (message.flow, message.attempt) != offer.name:
        return refuse("stale_attempt", f"the grant is for attempt {offer.name!r}")
    if (message.begin, message.end) != (offer.begin, offer.end):
        return refuse("bad_range", f"the grant is for tokens [{offer.begin}, {offer.end})")
    if not isinstance(state, Granted) and state.writer != writer:
        return refuse("out_of_order", "the grant is in use already")
    return None


def objection(shape: PoolShape, offer: Offer, message: Lend) -> str:
    """Why what was lent cannot be read into our pool of ``shape``; empty where it can."""
    if unlike := differences(message.shape, shape):
        return "the pages that were lent do not fit: " + "; ".join(unlike)
    if cast_for(message.shape, shape):
        return "the pages that were lent hold other numbers: they have to be written"
    lent = sum(count for _, count in message.pages)
    expected = num_pages_of(message.shape, offer.begin, offer.end)
    return "" if lent == expected else f"{lent} pages were lent, {expected} are granted"


def reads(shape: PoolShape, offer: Offer, message: Lend) -> list[Runs]:
    """What to copy of the lender's pool into ours, layer by layer."""
    pages = expand(message.pages), offer.pages
    layers = range(shape.num_layers)
    return [runs_between(message.shape, shape, n, 0, pages).reversed() for n in layers]
