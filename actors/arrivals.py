"""A request becomes a flow: which strategy it gets, and how it stands among those who wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from bus.fleet import Fleet
from bus.messages import Request
from bus.public import Rejected
from observability.sampling import Sampling
from observability.untraced import begin_trace

from .admission import Waiter
from .catalog import Serving
from .claims import num_tokens
from .effects import Effect
from .flow import Flow
from .gate import Gate
from .inputs import Asked
from .last_words import request_attributes, say
from .table import Table

logger = logging.getLogger("microserve.router")

Policy: TypeAlias = Callable[[Request, Fleet], str]
"""Which strategy serves a request that names none, by its name."""


class Arrivals:
    def __init__(self, table: Table, gate: Gate, policy: Policy | None, sampling: Sampling) -> None:
        self._table, self._gate, self._policy = table, gate, policy
        self._sampling = sampling

    def asked(self, asked: Asked, now: float) -> list[Effect]:
        serving = self._table.catalog.serving(asked.orchestration, asked.flow)
        if serving is None:
            known = ", ".join(self._table.catalog.names())
            message = f"no orchestration {asked.orchestration!r}; known are {known}"
            rejected = Rejected("unknown_orchestration", message, asked.tag)
            return [say(asked.request.reply, rejected)]
        if missing := self._missing_adapter(asked):
            return [say(asked.request.reply, Rejected("bad_request", missing, asked.tag))]
        flow = Flow(
            asked.flow,
            asked.model,
            asked.orchestration,
            serving,
            asked.request,
            self._waiter(asked, now),
            begin_trace(self._sampling, asked.flow, asked.parent, now),
            began_s=now,
            active_s=now,
            deadline_s=now + asked.timeout_s if asked.timeout_s else float("inf"),
        )
        if asked.orchestration is None:
            flow.serving = self._chosen(flow) or serving
        if flow.trace.records:
            flow.trace.about(request_attributes(asked, flow.serving.ref))
        self._table.flows[flow.id] = flow
        return self._gate.arrive(flow, asked.tag, now)

    def _missing_adapter(self, asked: Asked) -> str:
        """Why nobody can serve it, in words. Where there is no engine at all, its strategy says
        so."""
        standing, adapter = self._table.standing, asked.request.adapter
        known = standing.adapters(asked.model)
        if not adapter or adapter in known or not standing.names(asked.model):
            return ""
        return f"no engine has the adapter {adapter!r}; there are: {', '.join(known) or 'none'}"

    def _chosen(self, flow: Flow) -> Serving | None:
        """What the policy wants for this flow; None where it does not decide, or is at fault."""
        if self._policy is None or self._table.catalog.is_active(None):
            return None
        try:
            name = self._policy(flow.request, self._table.fleet(flow))
        except Exception:  # a user's file: the default does
            logger.exception("the policy failed")
            return None
        chosen = self._table.catalog.serving(name, flow.id)
        if chosen is None:
            logger.error("the policy chose %r, which is no orchestration", name)
        return chosen

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
