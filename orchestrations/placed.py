"""Engines by group: requests of a topic or a tenant meet on engines that know its prefixes."""

from __future__ import annotations

from typing import Final

from bus.messages import Event, Submitted

from .machine import Idle, Job, State, Step, prepare
from .resilient import resilient

TOO_BUSY: Final = 2.0
"""The mix has shifted when another engine would be done in this part of the time."""


def placed(state: State, event: Event) -> Step:
    """An engine of the group does it all; where the group has too much to do, an engine of others
    does, and is sent the context that the group has."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            size = len(request.prompt)
            home = fleet.engine(fleet.group(request.group).best_prefix(request.prompt))
            away = fleet.engine(fleet.best_prefix(request.prompt))
            if home.wait_s(size) < TOO_BUSY * away.wait_s(size):
                return prepare(Job(request, home.name))
            return prepare(Job(request, away.name, home.name, split=min(home.cached, size - 1)))
    return resilient(state, event)
