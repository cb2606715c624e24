"""Disaggregated, but the decoder computes a share of the prompt, its tail."""

from __future__ import annotations

from typing import Final

from bus.messages import Event, Submitted

from .disaggregated import disaggregated
from .machine import Idle, Job, State, Step, prepare

DECODERS_SHARE: Final = 0.2
"""Of the prompt. The more of it, the later a prefiller is the bottleneck, and the less even the
decoding."""


def balanced(state: State, event: Event) -> Step:
    """The prefiller computes the head of the prompt, the decoder the tail and the answer."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            prefill, decode = fleet.pair(request.prompt)
            split = int(len(request.prompt) * (1 - DECODERS_SHARE))
            return prepare(Job(request, decode, prefill, split))
    return disaggregated(state, event)
