"""Disaggregated in turn: the decoder starts when the router has heard of the transfer."""

from __future__ import annotations

from bus.messages import Event, Prepared, RemoteSend, Sent
from orchestrations.disaggregated import disaggregated
from orchestrations.machine import Preparing, Sending, State, Step, generate


def in_turn(state: State, event: Event) -> Step:
    """The decoder is told to generate when the router has heard that all has arrived."""
    match state, event:
        case Preparing(job), Prepared(grant, matched) if matched < job.split:
            return Sending(job), [RemoteSend(job.prefill, job.prompt, grant, matched, job.split)]
        case Sending(job), Sent():
            return generate(job)
    return disaggregated(state, event)
