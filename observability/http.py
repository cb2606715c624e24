"""The gateway's side of a trace: one HTTP request, above the flows that it makes.

```
POST /v1/chat/completions   |===============================|   the caller's span above it, if any
  microserve.request          |============================|    one for each prompt
```
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from . import names
from .sampling import Sampling
from .spans import Attribute, Span, SpanContext, derive, traceparent


class Answered(Struct, frozen=True):
    """How an HTTP request ended."""

    status: int
    attributes: Mapping[str, Attribute] = {}
    error: str | None = None


class HttpTrace:
    """Of one request that begins ``now``; ``fresh`` is a random trace id, for a request whose
    caller has none. The method and the route name the span."""

    def __init__(
        self, sampling: Sampling, parent: SpanContext | None, fresh: str, now: float
    ) -> None:
        trace_id = parent.trace_id if parent else fresh
        self._parent, self._began_s = parent, now
        is_sampled = sampling.head(parent, trace_id)
        self._context = SpanContext(trace_id, derive(trace_id, "http", fresh), is_sampled)
        is_open = not is_sampled and sampling.decides_later(parent)
        self._told = parent if is_open else self._context

    @property
    def headers(self) -> dict[str, str]:
        """For the requests that are made of this one. Where their routers may decide later, they
        are told what the caller said and not our *not sampled*, which would be the last word."""
        return traceparent(self._told) if self._told else {}

    def ended(self, method: str, route: str, now: float, answered: Answered) -> list[Span]:
        """Its span; none where the trace is not sampled."""
        if not self._context.sampled:
            return []
        attributes: dict[str, Attribute] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": answered.status,
            **answered.attributes,
        }
        return [
            Span(
                self._context,
                self._parent,
                f"{method} {route}",
                "server",
                self._began_s,
                max(now, self._began_s),
                attributes,
                error=answered.error,
                service=names.GATEWAY_SERVICE,
            )
        ]
