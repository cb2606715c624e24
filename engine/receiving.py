"""The desk for contexts that come from other engines: `PrepRecv`, `Commit`, and how they end."""

from __future__ import annotations

from bus.messages import Committed, Prepared, PrepRecv
from bus.transfers import Fenced

from .acceptance import accept_prompt
from .context import Context
from .flows import Flow
from .generating import Generating
from .outcomes import Outcome, Told
from .parts import Parts
from .ranges import resolve
from .reception import Reception
from .refusal import Refusal
from .trail import Trail


class Receiving:
    """Pages that a peer may write are nobody else's until the transport says that it cannot."""

    def __init__(self, parts: Parts, generating: Generating) -> None:
        self._parts, self._generating = parts, generating

    def prepare(self, flow: Flow, command: PrepRecv, now: float) -> list[Outcome]:
        if flow.generation or flow.sending:
            raise Refusal("out_of_order", "PrepRecv comes before everything else of its attempt")
        ids = accept_prompt(command.prompt, self._parts.card)
        _, end = resolve(0, command.end, len(ids))
        context = self._parts.context(flow, ids[:end], capacity=end)
        context.match(end)
        self._parts.scheduler.take_back(context, end)
        matched = context.num_computed
        reception = Reception(context, len(ids), now)
        grant = self._grant(flow, reception) if matched < end else b""
        flow.reception = reception
        if not reception.is_arriving:
            self._parts.scheduler.rest(context)
        self._parts.counters.matchable_tokens += end
        self._parts.counters.matched_tokens += matched
        return [self._parts.told(flow, "PrepRecv", Prepared(grant, matched))]

    def commit(self, flow: Flow, now: float) -> list[Outcome]:
        reception = flow.reception
        if reception is None or flow.generation:
            raise Refusal("out_of_order", "Commit needs a context that was received and not used")
        reception.committing_since = now
        return [] if reception.is_arriving else [self._committed(flow, reception, now)]

    def arrived(self, flow: Flow, now: float) -> list[Outcome]:
        reception = flow.reception
        if reception is None or not reception.is_arriving:
            return []
        if reception.revoked:
            return self._forget(flow, reception)
        self._parts.counters.received_tokens += reception.arrive()
        if reception.committing_since is not None:
            return [self._committed(flow, reception, now)]
        self._parts.scheduler.rest(reception.context)
        if flow.generation:
            self._generating.begin(flow, flow.generation, now)
        return []

    def fenced(self, flow: Flow, event: Fenced, now: float) -> list[Outcome]:
        reception = flow.reception
        if reception is None or not reception.is_arriving:
            return []
        refusal = Refusal(event.kind, f"the context did not arrive: {event.reason}")
        outcomes: list[Outcome] = []
        if reception.committing_since is not None:
            phases = _waited(reception.committing_since, now)
            outcomes = [self._parts.refused(flow, "Commit", refusal, phases.take())]
        if flow.generation:
            outcomes = [self._generating.refuse(flow, flow.generation, refusal)]
        return outcomes + self._forget(flow, reception)

    def revoke(self, flow: Flow) -> None:
        """Nobody wants it any more. Granted pages stay reserved until the peer is fenced."""
        reception = flow.reception
        if reception is None or reception.revoked:
            return
        if not reception.is_arriving:
            self._forget(flow, reception)
            return
        assert self._parts.wire is not None
        reception.revoked, reception.committing_since = True, None
        self._parts.wire.revoke(*flow.key)

    def _grant(self, flow: Flow, reception: Reception) -> bytes:
        context, wire = reception.context, self._parts.wire
        matched, end = context.num_computed, context.num_tokens
        if wire is None:
            context.drop()
            raise Refusal("not_supported", "this engine has no KV transport: use StartGenerate")
        first, missing = context.num_pages, context.missing(end)
        if missing > self._parts.pages.num_available:
            context.drop()
            raise _busy(missing, self._parts.pages.num_available)
        context.grow(end)
        reception.num_granted = missing
        return wire.grant(*flow.key, matched, end, context.table[first:].tolist())

    def _committed(self, flow: Flow, reception: Reception, now: float) -> Told:
        assert reception.committing_since is not None
        context: Context = reception.context
        context.publish(context.num_tokens)
        pages = self._parts.pages
        kept = len(pages.match(context.tokens, context.adapter)) * pages.page_size
        phases = _waited(reception.committing_since, now)
        self._forget(flow, reception)
        return self._parts.told(flow, "Commit", Committed(kept), phases.take())

    def _forget(self, flow: Flow, reception: Reception) -> list[Outcome]:
        self._parts.scheduler.unrest(reception.context)
        reception.context.drop()
        flow.reception = None
        return []


def _waited(since: float, now: float) -> Trail:
    trail = Trail()
    trail.add("wait", since, now)
    return trail


def _busy(missing: int, available: int) -> Refusal:
    return Refusal(
        "busy",
        f"{missing} pages are wanted, {available} can be had now: try another engine, or later",
    )
