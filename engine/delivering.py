"""The desk for contexts that go to other engines: `RemoteSend`, its steps, and how it ends."""

from __future__ import annotations

from bus.messages import RemoteSend
from bus.transfers import Delivered, SendFailed
from bus.wire import GrantRefused, Wire

from .acceptance import accept_prompt
from .flows import Flow
from .outcomes import Outcome, Told
from .parts import Parts
from .ranges import resolve
from .refusal import Refusal
from .sending import Route, Sending


class Delivering:
    """Pages that the transport reads keep their content until it has ended the transfer."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def send(self, flow: Flow, command: RemoteSend, now: float) -> list[Outcome]:
        wire = self._checked_wire(flow)
        ids = accept_prompt(command.prompt, self._parts.card)
        begin, end = resolve(command.begin, command.end, len(ids))
        self._check_pages(begin, end)
        _open(wire, flow, command.grant, begin, end)
        route = Route(flow.name, flow.attempt, begin, end, self._parts.pages.page_size)
        context = self._parts.context(flow, ids[:end], capacity=end)
        flow.sending = Sending(context, route, wire, now)
        self._parts.scheduler.add(flow.sending)
        return []

    def begin(self, sending: Sending) -> None:
        """It has its pages: send those that the cache had."""
        sending.begin(self._parts.card.shape.num_layers)

    def computed(self, sending: Sending) -> None:
        """A step computed more of it and sent what became complete."""
        sending.written(sending.context.num_computed)
        if sending.context.num_pending == 0:
            self._parts.scheduler.remove(sending)
            sending.finish()

    def delivered(self, flow: Flow, event: Delivered, now: float) -> list[Outcome]:
        self._parts.counters.rates.sent(event.num_bytes, event.write_s)
        sending = self._ended(flow)
        if sending is None:
            return []
        sent, phases = sending.sent(event, now), sending.trail.take()
        if sending.aborted:  # too late: it had arrived
            flow.untold += phases
            return []
        return [self._parts.told(flow, sending.verb, sent, phases)]

    def failed(self, flow: Flow, event: SendFailed) -> list[Outcome]:
        sending = self._ended(flow)
        if sending is None or sending.aborted:
            return []
        return [self._refusal(flow, sending, Refusal(event.kind, event.reason))]

    def refuse(self, flow: Flow, sending: Sending, refusal: Refusal) -> Told:
        """We failed: the peer is told to expect no more."""
        self.abort(flow)
        return self._refusal(flow, sending, refusal)

    def break_off(self, flow: Flow, now: float) -> None:
        """Nobody wants it any more, however far it is."""
        if flow.sending:
            flow.untold += flow.sending.break_off(now)
        self.abort(flow)

    def abort(self, flow: Flow) -> None:
        """Nobody wants it any more. Its pages stay until the transport reads them no more."""
        if flow.sending and not flow.sending.aborted:
            self._parts.scheduler.remove(flow.sending)
            flow.sending.abort()

    def _refusal(self, flow: Flow, sending: Sending, refusal: Refusal) -> Told:
        return self._parts.refused(flow, sending.verb, refusal, sending.trail.take())

    def _ended(self, flow: Flow) -> Sending | None:
        sending, flow.sending = flow.sending, None
        if sending:
            self._parts.scheduler.remove(sending)
            sending.context.drop()
        return sending

    def _checked_wire(self, flow: Flow) -> Wire:
        if self._parts.wire is None:
            raise Refusal("not_supported", "this engine has no KV transport: it cannot send")
        if flow.reception and flow.reception.is_arriving:
            raise Refusal("out_of_order", "this attempt of the flow receives here already")
        if self._parts.scheduler.num_waiting >= self._parts.config.max_waiting:
            waiting = self._parts.config.max_waiting
            raise Refusal("busy", f"{waiting} commands are waiting: try another engine")
        return self._parts.wire

    def _check_pages(self, begin: int, end: int) -> None:
        size = self._parts.pages.page_size
        if begin == end:
            raise Refusal("bad_range", f"[{begin}, {end}) is empty: there is nothing to send")
        if begin % size:
            raise Refusal(
                "bad_range",
                f"begin={begin} is inside a page of {size} tokens: give `matched` of Prepared",
            )


def _open(wire: Wire, flow: Flow, grant: bytes, begin: int, end: int) -> None:
    try:
        wire.open(flow.name, flow.attempt, grant, begin, end)
    except GrantRefused as refused:
        reason = refused.reason
        raise Refusal(reason, refused.message) from refused
