"""Which strategy serves a new flow that names none. Edit it: the router asks it for every flow."""

from __future__ import annotations

from typing import Final

from bus.fleet import Fleet
from bus.messages import Request

SHORT_TOKENS: Final = 64
"""A prompt of which less than this is to be computed is not worth two engines."""


def policy(request: Request, fleet: Fleet) -> str:
    """The name of a strategy, from what is asked and how the engines are now."""
    missing = len(request.prompt) - fleet.most_cached
    if request.sampling.max_tokens == 0:
        return "migrate_context"
    if fleet.has_groups:
        return "placed"
    if missing < SHORT_TOKENS or len(fleet.engines) == 1:
        return "data_parallel"
    if fleet.is_measured:
        return "adaptive"
    return "resilient"  # nothing to weigh by, until the engines have measured themselves
