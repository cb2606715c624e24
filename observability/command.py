"""The engine's side of a trace: one command that was carried out, as a span with its phases.

```
send RemoteSend (router)  |==========================|
  process RemoteSend        |======================|
    queue                   |==|
    prefill                    |=======||======|
    kv.transfer                       |============|
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol

from msgspec import Struct

from . import names
from .spans import Attribute, Attributes, Span, SpanContext, derive, trace_id_of

MAX_PHASES: Final = 32


class Phase(Protocol):
    """One stretch of work on a command, as `engine.outcomes.Phase` has it."""

    @property
    def name(self) -> str: ...
    @property
    def begin_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def attributes(self) -> Mapping[str, str | int | float | bool]: ...


class Handled(Struct, frozen=True):
    """A command that an engine has finished with, well or not. All times are unix seconds."""

    flow: str
    attempt: int
    verb: str
    engine: str
    begin_s: float
    """When the order was received."""
    end_s: float
    phases: Sequence[Phase] = ()
    attributes: Attributes = {}
    error: str | None = None


def command_spans(parent: SpanContext | None, handled: Handled) -> list[Span]:
    """A consumer span below the producer's, and a span for each phase below that.

    ``parent`` is what came in the order's headers. Without it the spans join the flow's own trace,
    at its top. The consumer's span covers all its phases. A command with more than 32 phases shows
    neighbours of one name as one. Nothing is made for a trace that is not sampled.
    """
    if parent is not None and not parent.sampled:
        return []
    trace_id = parent.trace_id if parent else trace_id_of(handled.flow)
    labels = (handled.flow, handled.verb, handled.engine, handled.attempt)
    context = SpanContext(trace_id, derive(trace_id, "process", *labels))
    phases = _at_most(handled.phases, MAX_PHASES)
    children = [
        _phase_span(context, derive(trace_id, "phase", *labels, number), handled, phase)
        for number, phase in enumerate(phases[:MAX_PHASES])
    ]
    return [_command_span(context, parent, handled, len(phases) - len(children)), *children]


def _command_span(
    context: SpanContext, parent: SpanContext | None, handled: Handled, num_dropped: int
) -> Span:
    attributes = {
        **names.messaging("process", handled.verb, handled.engine, handled.attempt),
        names.FLOW: handled.flow,
        **handled.attributes,
    }
    if num_dropped:
        attributes[names.DROPPED_PHASES] = num_dropped
    begin_s = min([handled.begin_s, *(phase.begin_s for phase in handled.phases)])
    return Span(
        context,
        parent,
        f"process {handled.verb}",
        "consumer",
        begin_s,
        max([begin_s, handled.end_s, *(phase.end_s for phase in handled.phases)]),
        attributes,
        error=handled.error,
        service=names.engine_service(handled.engine),
    )


def _phase_span(parent: SpanContext, span_id: str, handled: Handled, phase: Phase) -> Span:
    is_transfer = phase.name == "transfer"
    told = _transfer(phase) if is_transfer else {names.own(k): v for k, v in _items(phase)}
    return Span(
        SpanContext(parent.trace_id, span_id),
        parent,
        names.TRANSFER if is_transfer else phase.name,
        "internal",
        phase.begin_s,
        max(phase.end_s, phase.begin_s),
        {
            names.FLOW: handled.flow,
            names.ENGINE: handled.engine,
            names.PHASE: phase.name,
            **told,
        },
        service=names.engine_service(handled.engine),
    )


def _items(phase: Phase) -> list[tuple[str, Attribute]]:
    return list(phase.attributes.items())


def _transfer(phase: Phase) -> dict[str, Attribute]:
    """What a KV transfer moved, how fast, and how much of it the computation did not hide.

    The speed is that of the lane while bytes moved: a transfer goes layer by layer while they are
    computed, and what it waits for the computation says nothing of the lane.
    """
    given = dict(phase.attributes)
    seconds = float(given.pop("seconds", phase.end_s - phase.begin_s))
    exposed_s = min(max(float(given.pop("exposed_s", seconds)), 0.0), seconds)
    writing_s = min(float(given.pop("write_s", 0.0)) or seconds, seconds)
    told: dict[str, Attribute] = {f"microserve.kv.{key}": value for key, value in given.items()}
    told[names.KV_SECONDS] = seconds
    told[names.KV_SECONDS_WRITING] = writing_s
    told[names.KV_SECONDS_HIDDEN] = seconds - exposed_s
    told[names.KV_SECONDS_EXPOSED] = exposed_s
    if writing_s > 0:
        told[names.KV_GB_PER_S] = float(given.get("bytes", 0)) / writing_s / 1e9
    return told


class _Merged(Struct, frozen=True):
    """Neighbouring phases of one name as one, its numbers summed up."""

    name: str
    begin_s: float
    end_s: float
    attributes: dict[str, str | int | float | bool]


def _at_most(phases: Sequence[Phase], limit: int) -> Sequence[Phase]:
    """``phases`` as they are where there are few; else every run of one name as one phase."""
    if len(phases) <= limit:
        return phases
    return [_merge(name, list(run)) for name, run in groupby(phases, key=lambda p: p.name)]


def _merge(name: str, run: Sequence[Phase]) -> _Merged:
    summed: dict[str, str | int | float | bool] = {"merged": len(run)}
    for phase in run:
        for key, value in phase.attributes.items():
            known = summed.get(key, 0)
            numbers = isinstance(value, int | float) and isinstance(known, int | float)
            summed[key] = known + value if numbers else value  # type: ignore[operator]
    return _Merged(name, min(p.begin_s for p in run), max(p.end_s for p in run), summed)
