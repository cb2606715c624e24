"""Prefill on one engine, decode on another; what the decoder has cached is not sent."""

from __future__ import annotations

from bus.messages import Event, Prepared, Submitted

from .machine import (
    Idle,
    Job,
    Preparing,
    State,
    Step,
    alone,
    common,
    nearly_all,
    prepare,
    send,
)


def disaggregated(state: State, event: Event) -> Step:
    """Prefill on one engine, decode on another, which computes the rest where that is little."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            prefill, decode = fleet.pair(request.prompt)
            split = len(request.prompt) - 1
            if nearly_all(split, fleet.engine(decode).cached):
                prefill = decode
            return prepare(Job(request, decode, prefill, split))
        case Preparing(job), Prepared(_, matched) if nearly_all(job.split, matched):
            return alone(job, job.decode)
        case Preparing(job), Prepared(grant, matched):
            return send(job, grant, matched)
    return common(state, event)
