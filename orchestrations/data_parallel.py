"""The whole request on one engine, chosen by how much of the prompt it has and how busy it is."""

from __future__ import annotations

from bus.messages import Event, Submitted

from .machine import Idle, Job, State, Step, common, generate


def data_parallel(state: State, event: Event) -> Step:
    """One engine does it all."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            return generate(Job(request, decode=fleet.best_prefix(request.prompt)))
    return common(state, event)
