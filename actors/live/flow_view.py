"""One flow as the page shows it: its waterfall, where its time went, its prompt and its tokens."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from observability import names
from observability.details import details
from observability.shares import shares
from observability.spans import Attributes, Span
from observability.tree import Row, arrange
from observability.waterfall import MAX_ROWS, where_time_went

from ..lookout import Looked

MAX_TOKENS = 4096
"""Of a prompt or an answer, the last ones."""

Spell = Callable[[int], bytes]


class Bar(Struct, frozen=True):
    """One span of the waterfall. Times are in seconds since the request began."""

    name: str
    kind: str
    depth: int
    begin_s: float
    duration_s: float
    details: str
    engine: str = ""
    error: str = ""


class Said(Struct, frozen=True):
    """A prompt or an answer. ``tokens`` are its last ones, each with its part of the text."""

    num_tokens: int
    tokens: tuple[tuple[int, str], ...] = ()


class FlowView(Struct, frozen=True):
    flow: str
    strategy: str
    state: str
    goes_on: bool
    duration_s: float
    bars: tuple[Bar, ...]
    num_bars: int
    """All there are; the first ones are in ``bars``."""
    where_time_went: str
    engines: tuple[str, ...] = ()
    prompt: Said | None = None
    """None where nobody kept it: nobody looked when the flow ended."""
    answers: tuple[Said, ...] = ()
    withheld: bool = False
    """Texts are not for whoever asks."""


def flow_view(
    flow: str, looked: Looked | None, stored: Iterable[Span], spell: Spell | None
) -> FlowView | None:
    """What the flow's router and the store of traces know of it; None where neither does.

    ``spell`` gives a token's bytes. Without it there are no texts, only their lengths.
    """
    rows = arrange([*stored, *(looked.spans if looked else ())])
    if not rows:
        return None
    root, attributes = rows[0].span, _attributes(rows)
    view = FlowView(
        flow,
        str(attributes.get(names.VERSION, attributes.get(names.ORCHESTRATION, ""))),
        str(attributes.get(names.OUTCOME, "")) or (looked.state if looked else "?"),
        names.OUTCOME not in attributes,
        root.duration_s,
        tuple(_bar(row, root) for row in rows[:MAX_ROWS]),
        len(rows),
        where_time_went(shares(rows)),
    )
    return _with_texts(view, looked, spell) if looked else view


def _attributes(rows: Sequence[Row]) -> Attributes:
    """What the router says of the request; it need not be the root: whoever asked may have begun
    the trace."""
    found = (row.span.attributes for row in rows if row.span.name == names.REQUEST)
    return next(found, rows[0].span.attributes)


def _with_texts(view: FlowView, looked: Looked, spell: Spell | None) -> FlowView:
    said = [_said(tokens, spell) for tokens in (looked.prompt, *looked.answers)]
    return replace(
        view,
        engines=looked.engines,
        prompt=said[0],
        answers=tuple(said[1:]),
        withheld=spell is None,
    )


def _bar(row: Row, root: Span) -> Bar:
    span = row.span
    return Bar(
        span.name,
        span.kind,
        row.depth,
        round(span.begin_s - root.begin_s, 6),
        round(span.duration_s, 6),
        details(row),
        str(span.attributes.get(names.ENGINE, "")),
        span.error or "",
    )


def _said(tokens: Sequence[int], spell: Spell | None) -> Said:
    if spell is None:
        return Said(len(tokens))
    return Said(len(tokens), tuple(_spelled(tokens[max(0, len(tokens) - MAX_TOKENS) :], spell)))


def _spelled(tokens: Sequence[int], spell: Spell) -> Iterator[tuple[int, str]]:
    """A character that several tokens make up stands with the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield token, decoder.decode(spell(token))
