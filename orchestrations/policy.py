"""Which strategy serves a new flow that names none. Edit it: the router asks it for every flow."""

from __future__ import annotations

from typing import Final

from bus.fleet import Fleet
from bus.messages import Request

SHORT_TOKENS: Final = 64
"""A prompt of which less than this is to be computed is not worth two engines."""


def policy(request: Request, fleet: Fleet) -> str:
    """The name of a strategy, from what is asked and how the engines are now."""
    missing = min((e.missing(len(request.prompt)) for e in fleet.engines), default=0)
    if request.sampling.max_tokens == 0:
        return "migrate_context"
    if any(e.group for e in fleet.engines):
        return "placed"
    if missing < SHORT_TOKENS or len(fleet.engines) == 1:
        return "data_parallel"
    if all(e.prefill_tokens_per_s for e in fleet.engines):
        return "adaptive"
    return "resilient"  # nothing to weigh by, until the engines have measured themselves
