"""Any strategy, surviving the loss of any engine at any moment."""

from __future__ import annotations

from bus.messages import EngineLost, Event, Refused, Submitted

from .disaggregated import disaggregated
from .machine import (
    Generating,
    Idle,
    Job,
    Preparing,
    Renew,
    Sending,
    State,
    Step,
    Strategy,
    alone,
)


def resilient(state: State, event: Event) -> Step:
    """Disaggregated, going on from the tokens so far when an engine is lost."""
    return surviving(disaggregated, state, event)


def surviving(strategy: Strategy, state: State, event: Event) -> Step:
    """What the strategy does, but for what it would give up for: an engine that is lost, and a
    transfer that fails. The user sees a pause."""
    match state, event:
        case Generating(job), EngineLost(lost) if lost != job.decode:
            return strategy(state, event)
        case Preparing(job) | Sending(job) | Generating(job), EngineLost(lost, fleet) if (
            lost in job.engines and fleet.engines
        ):
            return again(strategy, job, event)
        case Preparing(job), Refused("PrepRecv"):
            return alone(job, job.prefill)
        case Sending(job), Refused("RemoteSend" | "StartGenerate", "transfer_failed" | "corrupt"):
            return alone(job, job.decode)
    return strategy(state, event)


def again(strategy: Strategy, job: Job, lost: EngineLost) -> Step:
    """The rest of the answer, as a new request to those who are left."""
    request = job.request.going_on(lost.answered)
    state, commands = strategy(Idle(), Submitted(request, lost.fleet))
    return state, [*job.release(lost.engine), Renew(), *commands]
