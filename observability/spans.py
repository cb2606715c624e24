"""A span is one named stretch of time in the life of one request; these are spans as plain values.

Nothing here knows OpenTelemetry: `observability.otlp` translates at the edge. Times are unix
seconds. Ids are derived, never drawn, so that a pure core can make them and a replay repeats them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from msgspec import Struct

Attribute: TypeAlias = str | bool | int | float | tuple[str, ...]
Attributes: TypeAlias = Mapping[str, Attribute]
Told: TypeAlias = Attributes | Callable[[], Attributes] | None
"""What there is to say of something; or what says it, for where it may be that nobody listens."""
Kind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]

HEADER: Final = "traceparent"
VERSION_0: Final = "00"
FORBIDDEN_VERSION: Final = "ff"
SAMPLED: Final = 0x01
NO_SPAN: Final = 16 * "0"

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class SpanContext(Struct, frozen=True):
    """What has to travel for a span elsewhere to become a child of this one."""

    trace_id: str
    """32 lower-case hex digits, not all zero."""
    span_id: str
    """16 lower-case hex digits, not all zero."""
    sampled: bool = True
    """False where whoever began the trace does not want it recorded: nobody below records."""


class SpanEvent(Struct, frozen=True):
    """Something that happened at one moment of a span."""

    name: str
    at_s: float
    attributes: dict[str, Attribute] = {}


class Link(Struct, frozen=True):
    """Another span that this one has to do with, without being its child."""

    context: SpanContext
    attributes: dict[str, Attribute] = {}


class Span(Struct, frozen=True):
    """A finished span. ``begin_s <= end_s``, in unix seconds."""

    context: SpanContext
    parent: SpanContext | None
    name: str
    kind: Kind
    begin_s: float
    end_s: float
    attributes: dict[str, Attribute] = {}
    events: tuple[SpanEvent, ...] = ()
    links: tuple[Link, ...] = ()
    error: str | None = None
    """What went wrong; None where nothing did."""
    service: str = ""
    """The actor that did the work; empty leaves it to the sink."""

    @property
    def duration_s(self) -> float:
        return self.end_s - self.begin_s


def read(told: Told) -> Attributes:
    return told() if callable(told) else told or {}


def trace_id_of(flow: str) -> str:
    """The trace id of a flow that nobody gave one: the flow's own id where it can be one."""
    if _TRACE_ID.fullmatch(flow) and int(flow, 16):
        return flow
    return blake2b(flow.encode(), digest_size=16, person=b"microserve.trace").hexdigest()


def derive(trace_id: str, *labels: str | int) -> str:
    """The span id that ``labels`` name within a trace: always the same, never all zeros.

    Different labels, and the same labels in another trace, give different ids, as far as 64 bits
    can: a label's length is hashed with it, so that ``("ab", "c")`` is not ``("a", "bc")``.
    """
    told = [str(label).encode() for label in labels]
    framed = b"".join([len(text).to_bytes(8, "little") + text for text in told])
    found = blake2b(framed, digest_size=8, key=trace_id.encode()[:64]).hexdigest()
    return found if found != NO_SPAN else f"{1:016x}"


def parse_traceparent(headers: Mapping[str, str] | None) -> SpanContext | None:
    """The caller's span as its W3C ``traceparent`` header names it.

    None where there is no header, or one that the standard tells us to ignore: a bad trace context
    must never cost anybody his request. The header's name is matched in any case.
    """
    for name, value in (headers or {}).items():
        if name.lower() == HEADER:
            return _parse(value)
    return None


def _parse(value: str) -> SpanContext | None:
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == FORBIDDEN_VERSION or (version == VERSION_0 and rest is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return SpanContext(trace_id, span_id, sampled=bool(int(flags, 16) & SAMPLED))


def traceparent(context: SpanContext) -> dict[str, str]:
    """The header that makes whatever the receiver does a child of ``context``."""
    flags = SAMPLED if context.sampled else 0
    return {HEADER: f"{VERSION_0}-{context.trace_id}-{context.span_id}-{flags:02x}"}
