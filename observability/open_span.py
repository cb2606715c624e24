"""A span that has begun and not ended: what is known of it so far."""

from __future__ import annotations

from msgspec import Struct

from . import names
from .spans import Attribute, Kind, Link, Span, SpanContext, SpanEvent


class OpenSpan(Struct):
    context: SpanContext
    parent: SpanContext | None
    name: str
    kind: Kind
    begin_s: float
    attributes: dict[str, Attribute]
    links: tuple[Link, ...] = ()

    def closed(
        self, now: float, error: str | None = None, events: tuple[SpanEvent, ...] = ()
    ) -> Span:
        """Ends now, but never before it began: clocks have been seen to step back."""
        return Span(
            self.context,
            self.parent,
            self.name,
            self.kind,
            self.begin_s,
            max(now, self.begin_s),
            self.attributes,
            events,
            self.links,
            error,
            names.ROUTER_SERVICE,
        )
