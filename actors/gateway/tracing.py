"""The gateway's own spans: begun by a request, recorded when it has been answered."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from aiohttp import web
from msgspec import Struct

from observability.http import Answered, HttpTrace
from observability.sampling import Sampling
from observability.sink import SpanSink
from observability.spans import parse_traceparent


class Tracer(Struct, frozen=True):
    sink: SpanSink
    sampling: Sampling

    def begin(self, headers: Mapping[str, str], now: float) -> HttpTrace:
        """The caller's trace goes on through the fleet."""
        return HttpTrace(self.sampling, parse_traceparent(headers), secrets.token_hex(16), now)

    def end(self, trace: HttpTrace, request: web.Request, now: float, answered: Answered) -> None:
        self.sink.record(trace.ended(request.method, request.path, now, answered))
