"""Where the time of one request went: every moment of it goes to what was being worked on then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from msgspec import Struct

from . import names
from .details import speed_text
from .spans import Span
from .tree import Row

IDLE: Final = ("queue", "wait")
MESSAGES: Final = "messages"
"""A command was on its way to an engine, or its event on the way back. Without a span of the engine
nobody knows, and the time goes to the command."""


class Share(Struct, frozen=True):
    """A part of a request's time. The shares of one request add up to 1."""

    label: str
    seconds: float
    share: float


def shares(rows: Sequence[Row]) -> tuple[Share, ...]:
    """The request's time by what it was spent on, largest first.

    ```
    Sending      |====================|        a moment belongs to the deepest span that covers it,
      prefill       |========|                 here    Sending 3, prefill 8, KV 5, Sending 4;
      kv.transfer      |==========|            a transfer hidden behind computing costs nothing
    ```
    """
    root = rows[0].span if rows else None
    if root is None or root.duration_s <= 0:
        return ()
    spent: defaultdict[str, float] = defaultdict(float)
    parents = {row.span.parent.span_id for row in rows if row.span.parent}
    for begin_s, end_s, row in _moments(rows, root):
        spent[_label(row, row.span.context.span_id in parents)] += end_s - begin_s
    found = [Share(label, seconds, seconds / root.duration_s) for label, seconds in spent.items()]
    return tuple(sorted(found, key=lambda share: (-share.seconds, share.label)))


def _moments(rows: Sequence[Row], root: Span) -> list[tuple[float, float, Row]]:
    """The request cut wherever a span begins or ends, each piece with its deepest span."""
    cuts = {root.begin_s, root.end_s}
    for row in rows:
        cuts |= {row.span.begin_s, row.span.end_s}
    edges = sorted(cut for cut in cuts if root.begin_s <= cut <= root.end_s)
    return [
        (begin_s, end_s, max((r for r in rows if _covers(r, begin_s, end_s)), key=_rank))
        for begin_s, end_s in pairwise(edges)
    ]


def _covers(row: Row, begin_s: float, end_s: float) -> bool:
    return row.span.begin_s <= begin_s and end_s <= row.span.end_s


def _rank(row: Row) -> tuple[int, int, float]:
    """Deeper first; computing before transferring before waiting; then whatever began later."""
    name = row.span.name
    work = 0 if name in IDLE else 1 if name == names.TRANSFER else 2
    return row.depth, work, row.span.begin_s


def _label(row: Row, is_parent: bool) -> str:
    span = row.span
    engine = span.attributes.get(names.ENGINE, "")
    if span.kind == "producer" and is_parent:
        return MESSAGES
    if span.kind in ("producer", "consumer"):
        return f"{span.attributes.get(names.VERB, span.name)} on {engine}"
    if span.name == names.TRANSFER:
        return f"KV {speed_text(span)}".rstrip()
    if names.PHASE in span.attributes:
        return f"{span.name} on {engine}"
    if row.depth == 0 and span.kind == "server" and span.service == names.GATEWAY_SERVICE:
        return "gateway"
    return "router" if row.depth == 0 or span.name == names.REQUEST else span.name
