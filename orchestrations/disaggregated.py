"""Prefill on one engine, decode on another; what the decoder has cached is not sent."""

from __future__ import annotations

from bus.messages import Event, Prepared, RemoteSend, Sent, Submitted

from .data_parallel import data_parallel
from .machine import Idle, Job, Preparing, Sending, State, Step, common, generate, prepare


def disaggregated(state: State, event: Event) -> Step:
    """Prefill on one engine, decode on another."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            prefill, decode = fleet.pair()
            if prefill == decode:
                return data_parallel(state, event)
            return prepare(Job(request, decode, prefill, split=len(request.prompt) - 1))
        case Preparing(job), Prepared(grant, matched) if matched < job.split:
            return Sending(job), [RemoteSend(job.prefill, job.prompt, grant, matched, job.split)]
        case (Preparing(job), Prepared()) | (Sending(job), Sent()):
            return generate(job)
    return common(state, event)
