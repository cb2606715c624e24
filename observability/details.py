"""What a waterfall writes beside a span: the few attributes that matter, in words."""

from __future__ import annotations

from typing import Final

from . import names
from .spans import Attribute, Span
from .tree import Row

MAX_CHARACTERS: Final = 120
MAX_OTHERS: Final = 4
OTHERS_OF: Final = "microserve."
SAID: Final = frozenset(
    {names.FLOW, names.STATE, names.ENGINE, names.VERB, names.ATTEMPT, names.PHASE, names.SCORES}
)
"""Attributes that the tree, or the engine's name in front, says already."""


def details(row: Row) -> str:
    """One line of at most 120 characters, without control characters."""
    span = row.span
    parts = [
        *([f"✗ {span.error}"] if span.error is not None else []),
        *_own(span),
        *(f"• {event.name}" for event in span.events if event.name != names.TRANSITION),
        *(["unanswered"] if span.attributes.get(names.UNANSWERED) else []),
        *(["(parent missing)"] if row.orphan else []),
    ]
    text = printable(", ".join(parts))
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"


def printable(text: str) -> str:
    """Escape sequences must not reach the terminal of whoever looks at somebody's trace."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def bytes_text(num_bytes: float) -> str:
    """Powers of ten: ``0 B``, ``1.5 kB``, ``23.6 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def seconds_text(seconds: float) -> str:
    """``12 µs``, ``3.4 ms``, ``1.25 s``."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"


def _own(span: Span) -> list[str]:
    if span.name == names.REQUEST:
        return _request(span)
    engine = str(span.attributes.get(names.ENGINE, ""))
    where = [f"to {engine}" if span.kind == "producer" else f"on {engine}"] if engine else []
    return where + (_transfer(span) if span.name == names.TRANSFER else _others(span))


def _request(span: Span) -> list[str]:
    given = span.attributes
    told = [names.ORCHESTRATION, names.OUTCOME]
    tokens_in, tokens_out = given.get(names.INPUT_TOKENS), given.get(names.OUTPUT_TOKENS)
    counted = tokens_in is not None and tokens_out is not None
    return [
        *(str(given[name]) for name in told if given.get(name)),
        *([f"{tokens_in} → {tokens_out} tokens"] if counted else []),
        *([str(given[names.REQUEST_MODEL])] if given.get(names.REQUEST_MODEL) else []),
    ]


def _transfer(span: Span) -> list[str]:
    given = {name: _number(span, name) for name in span.attributes}
    pages, runs = given.get(names.KV_PAGES), given.get(names.KV_RUNS)
    seconds, hidden_s = given.get(names.KV_SECONDS), given.get(names.KV_SECONDS_HIDDEN)
    moved = f"{bytes_text(given.get(names.KV_BYTES) or 0)} {speed_text(span)}".rstrip()
    return [
        moved,
        *([f"{hidden_s / seconds * 100:.0f} % hidden"] if seconds and hidden_s is not None else []),
        *([f"{pages:.0f} pages in {runs:.0f} runs"] if pages and runs else []),
    ]


def speed_text(span: Span) -> str:
    """``at 1.1 GB/s over posix``, as far as it is known."""
    speed, lane = _number(span, names.KV_GB_PER_S), span.attributes.get(names.KV_LANE)
    parts = [f"at {speed:.2g} GB/s" if speed is not None else "", f"over {lane}" if lane else ""]
    return " ".join(part for part in parts if part)


def _others(span: Span) -> list[str]:
    """Our own attributes that nothing above has a word for: ``tokens 512``."""
    others = [
        f"{name.removeprefix(OTHERS_OF)} {_value(value)}"
        for name, value in span.attributes.items()
        if name not in SAID and (name.startswith(OTHERS_OF) or "." not in name)
        if name != names.UNANSWERED
    ]
    return others[:MAX_OTHERS]


def _value(value: Attribute) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(span: Span, name: str) -> float | None:
    value = span.attributes.get(name)
    return float(value) if isinstance(value, int | float) else None
