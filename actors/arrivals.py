"""A request becomes a flow: which strategy it gets, and how it stands among those who wait."""

from __future__ import annotations

from functools import partial

from bus.public import Rejected
from observability.beginning import begin_trace
from observability.sampling import Sampling
from orchestrations.machine import common

from .admission import Waiter
from .catalog import Serving
from .choosing import choose
from .claims import num_tokens
from .effects import Effect
from .flow import Flow
from .gate import Gate
from .inputs import Asked
from .last_words import request_attributes, say
from .table import Table


class Arrivals:
    def __init__(self, table: Table, gate: Gate, sampling: Sampling) -> None:
        self._table, self._gate, self._sampling = table, gate, sampling

    def asked(self, asked: Asked, now: float) -> list[Effect]:
        found = self._table.catalog.serving(asked.orchestration, asked.flow)
        if found is None:
            return [self._unknown(asked)]
        if missing := self._missing_adapter(asked):
            return [say(asked.request.reply, Rejected("bad_request", missing, asked.tag))]
        flow = Flow(
            asked.flow,
            asked.model,
            asked.orchestration,
            Serving(found.ref, common),
            asked.request,
            self._waiter(asked, now),
            begin_trace(self._sampling, asked.flow, asked.parent, now),
            began_s=now,
            active_s=now,
            deadline_s=now + asked.timeout_s if asked.timeout_s else float("inf"),
        )
        choice = choose(self._table, flow)
        if choice.serving is None:
            return [self._unknown(asked), *choice.effects]
        flow.serving = choice.serving
        if flow.trace.records:
            flow.trace.about(partial(request_attributes, asked, flow.serving.ref))
        self._table.flows[flow.id] = flow
        return [*choice.effects, *self._gate.arrive(flow, asked.tag, now)]

    def _missing_adapter(self, asked: Asked) -> str:
        """Why nobody can serve it, in words. Where there is no engine at all, its strategy says
        so."""
        standing, adapter = self._table.standing, asked.request.adapter
        if not adapter or not standing.names(asked.model):
            return ""
        known = standing.adapters(asked.model)
        if adapter in known:
            return ""
        return f"no engine has the adapter {adapter!r}; there are: {', '.join(known) or 'none'}"

    def _unknown(self, asked: Asked) -> Effect:
        known = ", ".join(self._table.catalog.names())
        message = f"no orchestration {asked.orchestration!r}; known are {known}"
        return say(asked.request.reply, Rejected("unknown_orchestration", message, asked.tag))

    def _waiter(self, asked: Asked, now: float) -> Waiter:
        per_s = self._table.standing.fastest_prefill_per_s(asked.model)
        return Waiter(
            asked.flow,
            asked.user,
            asked.request.priority,
            now + asked.timeout_s if asked.timeout_s else float("inf"),
            num_tokens(asked.request),
            len(asked.request.prompt) / per_s if per_s else 0.0,
        )
