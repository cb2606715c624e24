"""The spans of one trace in the order in which a waterfall shows them: children below parents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from . import names
from .spans import Span


class Row(Struct, frozen=True):
    """One span and its place in the tree."""

    span: Span
    depth: int
    """0 for the root."""
    branch: str
    """What a terminal draws before the name, such as ``"│  └─ "``."""
    orphan: bool = False
    """Its parent is not among the spans, so it stands below the root."""


def arrange(spans: Iterable[Span]) -> tuple[Row, ...]:
    """Every span once, each below its parent, siblings by begin.

    A broken trace is arranged like any other: of spans with one id the last counts, and what has no
    parent here, or only itself in the end, goes below the root. The root is the request's span or,
    where that is missing, the first one without a parent.
    """
    by_id = {span.context.span_id: span for span in spans}
    ordered = sorted(by_id.values(), key=lambda span: (span.begin_s, -span.end_s))
    if not ordered:
        return ()
    root = _root(ordered, by_id)
    parents = _parents(ordered, root)
    children: defaultdict[str, list[Span]] = defaultdict(list)
    for span in ordered:
        if span is not root:
            children[parents[span.context.span_id]].append(span)
    return _walk(root, children)


def _root(ordered: Sequence[Span], by_id: Mapping[str, Span]) -> Span:
    tops = [s for s in ordered if s.parent is None or s.parent.span_id not in by_id] or ordered
    return next((span for span in tops if span.name == names.REQUEST), tops[0])


def _parents(ordered: Sequence[Span], root: Span) -> dict[str, str]:
    """The parent of every span but the root, such that every way up ends at the root."""
    root_id = root.context.span_id
    known = {span.context.span_id for span in ordered}
    parents = {
        span.context.span_id: span.parent.span_id
        if span.parent and span.parent.span_id in known
        else root_id
        for span in ordered
    }
    anchored = {root_id}
    for span in ordered:
        way: dict[str, None] = {}
        at = span.context.span_id
        while at not in anchored and at not in way:
            way[at] = None
            at = parents[at]
        if at not in anchored:
            parents[at] = root_id  # A ring of parents is cut open where we came upon it again.
        anchored.update(way)
    return parents


def _walk(root: Span, children: Mapping[str, Sequence[Span]]) -> tuple[Row, ...]:
    """Depth first, with a stack of our own: a trace may be deeper than Python's."""
    rows = []
    stack = [(root, 0, "", "")]
    while stack:
        span, depth, branch, below = stack.pop()
        rows.append(Row(span, depth, branch, orphan=depth == 1 and _is_orphan(span, root)))
        under = children.get(span.context.span_id, ())
        for child in reversed(under):
            is_last = child is under[-1]
            branch, deeper = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            stack.append((child, depth + 1, below + branch, below + deeper))
    return tuple(rows)


def _is_orphan(span: Span, root: Span) -> bool:
    return span.parent is None or span.parent.span_id != root.context.span_id
