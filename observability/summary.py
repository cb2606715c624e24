"""What one flow did, as figures: for the demo, for tests, for whoever has no Jaeger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from . import names
from .shares import Share, shares
from .spans import Span
from .tree import arrange


class StateTime(Struct, frozen=True):
    """One stay of the flow in one state of its orchestration."""

    name: str
    begin_s: float
    """Since the request began."""
    seconds: float
    error: str | None = None


class CommandTime(Struct, frozen=True):
    """One command, from the moment it was ordered to its completion event."""

    verb: str
    engine: str
    attempt: int
    begin_s: float
    """Since the request began."""
    seconds: float
    error: str | None = None


class TransferTime(Struct, frozen=True):
    """One movement of KV from an engine to another."""

    engine: str
    """The sender."""
    num_bytes: int
    num_pages: int
    num_runs: int
    lane: str
    gb_per_s: float
    seconds: float
    exposed_s: float
    """The part that no computation hid."""


class FlowSummary(Struct, frozen=True):
    flow: str
    trace_id: str
    orchestration: str
    outcome: str
    """Empty where the request's own span is missing."""
    error: str | None
    begin_s: float
    """Unix seconds."""
    duration_s: float
    prompt_tokens: int | None
    completion_tokens: int | None
    ttft_s: float | None
    """From the request to the first token, as the router saw it."""
    states: tuple[StateTime, ...]
    commands: tuple[CommandTime, ...]
    transfers: tuple[TransferTime, ...]
    shares: tuple[Share, ...]

    @property
    def kv_bytes(self) -> int:
        return sum(transfer.num_bytes for transfer in self.transfers)


class NoSpans(ValueError):
    """There is nothing to sum up."""

    def __init__(self) -> None:
        super().__init__("a flow without spans has no summary")


def flow_summary(spans: Iterable[Span]) -> FlowSummary:
    """What the spans of one flow say of it. Whatever is missing is None, 0 or empty.

    Raises:
        NoSpans: there are none.
    """
    rows = arrange(spans)
    if not rows:
        raise NoSpans
    root = next((r.span for r in rows if r.span.name == names.REQUEST), rows[0].span)
    # Of commands that were sent together, the one that ended first comes first.
    ordered = sorted((row.span for row in rows), key=lambda span: (span.begin_s, span.end_s))
    return FlowSummary(
        flow=_text(root, names.FLOW),
        trace_id=root.context.trace_id,
        orchestration=_text(root, names.ORCHESTRATION),
        outcome=_text(root, names.OUTCOME),
        error=root.error,
        begin_s=root.begin_s,
        duration_s=root.duration_s,
        prompt_tokens=_count(root, names.INPUT_TOKENS),
        completion_tokens=_count(root, names.OUTPUT_TOKENS),
        ttft_s=_ttft_s(root),
        states=tuple(_state(s, root) for s in ordered if names.STATE in s.attributes),
        commands=_commands(ordered, root),
        transfers=tuple(_transfer(s) for s in ordered if s.name == names.TRANSFER),
        shares=shares(rows),
    )


def _state(span: Span, root: Span) -> StateTime:
    return StateTime(span.name, span.begin_s - root.begin_s, span.duration_s, span.error)


def _commands(ordered: Sequence[Span], root: Span) -> tuple[CommandTime, ...]:
    return tuple(_command(span, root) for span in ordered if span.kind == "producer")


def _command(span: Span, root: Span) -> CommandTime:
    return CommandTime(
        _text(span, names.VERB),
        _text(span, names.ENGINE),
        _count(span, names.ATTEMPT) or 0,
        span.begin_s - root.begin_s,
        span.duration_s,
        span.error,
    )


def _transfer(span: Span) -> TransferTime:
    return TransferTime(
        _text(span, names.ENGINE),
        _count(span, names.KV_BYTES) or 0,
        _count(span, names.KV_PAGES) or 0,
        _count(span, names.KV_RUNS) or 0,
        _text(span, names.KV_LANE),
        _number(span, names.KV_GB_PER_S) or 0.0,
        _number(span, names.KV_SECONDS) or span.duration_s,
        _number(span, names.KV_SECONDS_EXPOSED) or 0.0,
    )


def _ttft_s(root: Span) -> float | None:
    """As the root says or, where it does not, the moment of the transition by ``Started``."""
    given = _number(root, names.TTFT_S)
    if given is not None:
        return given
    started = (e.at_s for e in root.events if e.attributes.get("event") == "Started")
    return next((at_s - root.begin_s for at_s in started), None)


def _text(span: Span, name: str) -> str:
    return str(span.attributes.get(name, ""))


def _number(span: Span, name: str) -> float | None:
    value = span.attributes.get(name)
    return float(value) if isinstance(value, int | float) else None


def _count(span: Span, name: str) -> int | None:
    value = _number(span, name)
    return None if value is None else int(value)
