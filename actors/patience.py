"""How long a router waits for others."""

from __future__ import annotations

from msgspec import Struct

from .roster import BEAT_INTERVAL_S, LOST_AFTER_S


class Patience(Struct, frozen=True):
    accept_within_s: float = 2.0
    """An engine accepts between two messages of its loop, however long its steps are."""
    tries: int = 3
    """Of an order that was not accepted in time."""
    settle_s: float = 1.2 * BEAT_INTERVAL_S
    """Before requests are taken: every engine that is there has told of itself by then."""
    back_within_s: float = LOST_AFTER_S
    """Once we have the broker again, an engine that nobody hears may still be on its way back to
    it, until it would be missed by its beats."""
    again_after_s: float = 0.1
    """An order to such an engine is said again."""
