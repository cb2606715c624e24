"""Flows as a router and two engines would trace them, at times that are written down here."""

from __future__ import annotations

from engine.outcomes import Phase
from observability import names
from observability.command import Handled, command_spans
from observability.flow import FlowTrace
from observability.spans import Attribute, Span, SpanContext, parse_traceparent, traceparent

FLOW = "0123456789abcdef0123456789abcdef"
BEGIN_S = 1_800_000_000.0
CALLER = SpanContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


def at(milliseconds: float) -> float:
    """Unix seconds, so long after the flow began."""
    return BEGIN_S + milliseconds / 1000


def phase(name: str, begin_ms: float, end_ms: float, **attributes: str | float) -> Phase:
    return Phase(name, at(begin_ms), at(end_ms), dict(attributes))


def begun(flow: str = FLOW, parent: SpanContext | None = None) -> FlowTrace:
    attributes = {names.ORCHESTRATION: "disaggregated", names.REQUEST_MODEL: "smollm2-135m"}
    trace = FlowTrace(flow, parent, at(0))
    trace.about(attributes)
    return trace


def carried(context: SpanContext) -> SpanContext | None:
    """The context after a journey through the headers of a message."""
    return parse_traceparent(traceparent(context))


def disaggregated(flow: str = FLOW, parent: SpanContext | None = None) -> list[Span]:
    """Prefill on e0 with the KV going to e1, which decodes: all went well."""
    trace = begun(flow, parent)
    trace.moved("Idle", "Submitted", "Preparing", at(0), {"microserve.candidates": ("e0", "e1")})
    prepare = trace.ordered("PrepRecv", "e1", 1, at(0))
    spans = command_spans(
        carried(prepare),
        Handled(flow, 1, "PrepRecv", "e1", at(1), at(1.5), (), {"microserve.matched": 0}),
    )
    trace.answered("PrepRecv", "e1", 1, at(2), {"microserve.matched": 0})
    trace.moved("Preparing", "Prepared", "Sending", at(2))
    send = trace.ordered("RemoteSend", "e0", 1, at(2))
    sending = (
        phase("queue", 3, 10),
        phase("prefill", 10, 210, tokens=512, cached=0),
        phase("prefill", 220, 400, tokens=511, cached=0),
        phase(
            "transfer", 40, 440, bytes=47_185_920, pages=64, runs=2, lane="posix",
            seconds=0.4, exposed_s=0.04,
        ),
    )  # fmt: skip
    spans += command_spans(
        carried(send), Handled(flow, 1, "RemoteSend", "e0", at(3), at(440), sending)
    )
    trace.answered("RemoteSend", "e0", 1, at(442))
    trace.moved("Sending", "Sent", "Generating", at(442))
    generate = trace.ordered("StartGenerate", "e1", 1, at(442))
    trace.moved("Generating", "Started", "Generating", at(470))
    generating = (
        phase("prefill", 444, 468, tokens=1, cached=1023),
        phase("decode", 468, 990, tokens=31, steps=31),
    )
    spans += command_spans(
        carried(generate), Handled(flow, 1, "StartGenerate", "e1", at(443), at(992), generating)
    )
    trace.answered("StartGenerate", "e1", 1, at(995))
    trace.moved("Generating", "Finished", "Done", at(995))
    usage: dict[str, Attribute] = {
        names.INPUT_TOKENS: 1024,
        names.OUTPUT_TOKENS: 32,
        names.FINISH_REASONS: ("length",),
    }
    trace.ended("finished", at(1000), usage)
    return trace.drain() + spans


def cancelled() -> list[Span]:
    """The user went away during the transfer; e0 answered the release, e1 did not."""
    trace = begun()
    trace.moved("Idle", "Submitted", "Sending", at(0))
    trace.ordered("RemoteSend", "e0", 1, at(0))
    trace.moved("Sending", "Cancelled", "Done", at(100))
    trace.ordered("Release", "e0", 1, at(100))
    trace.ordered("Release", "e1", 1, at(100))
    trace.answered("Release", "e0", 1, at(103))
    trace.ended("cancelled", at(200))
    return trace.drain()


def failed() -> list[Span]:
    """e0 refused the transfer, and nobody tried again."""
    trace = begun()
    trace.moved("Idle", "Submitted", "Sending", at(0))
    send = trace.ordered("RemoteSend", "e0", 1, at(0))
    handled = Handled(
        FLOW, 1, "RemoteSend", "e0", at(1), at(60),
        (phase("prefill", 1, 50, tokens=512),), error="transfer_failed: e1 is gone",
    )  # fmt: skip
    spans = command_spans(carried(send), handled)
    trace.answered("RemoteSend", "e0", 1, at(62), error="transfer_failed: e1 is gone")
    trace.ended("failed", at(62), error="transfer_failed: e1 is gone")
    return trace.drain() + spans
