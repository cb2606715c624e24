"""What routers tell of their flows while somebody looks, and how one says that one does.

Nobody looks: no message. A watcher publishes `Watching` every second; a router that hears it tells
of its flows four times a second, and stops when it has heard nothing for `LEASE_S`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

LEASE_S: Final = 3.0
"""How long one `Watching` holds."""
RENEW_S: Final = 1.0


class Watching(Struct, frozen=True):
    """Somebody looks from now on."""

    whole: bool = False
    """He knows nothing yet, or has missed a message: begin to tell of every flow."""


class Sighting(Struct, frozen=True, array_like=True, gc=False):
    """A flow as it is now."""

    flow: str
    strategy: str
    """With its version: ``disaggregated@3``."""
    state: str
    """Of the strategy; ``Waiting`` while there is no room."""
    began_s: float
    engines: tuple[str, ...] = ()
    """Those that may hold something for it."""
    num_tokens: int = 0
    """Of its answer, so far."""


class Passage(Struct, frozen=True, array_like=True, gc=False):
    """How often one transition was made."""

    strategy: str
    before: str
    event: str
    after: str
    count: int


class Ending(Struct, frozen=True, array_like=True, gc=False):
    """A flow that is over."""

    flow: str
    strategy: str
    outcome: str
    jct_s: float
    """Job completion time: from the request to its end, as the router saw it."""
    num_tokens: int = 0
    ttft_s: float | None = None
    """Time to first token; None where there was none."""

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None where there are not two."""
        if self.ttft_s is None or self.num_tokens < 2:
            return None
        return max(0.0, self.jct_s - self.ttft_s) / (self.num_tokens - 1)


class Moves(Struct, frozen=True):
    """What became of one router's flows since its last message. One that is missing shows in
    ``sequence``."""

    router: str
    sequence: int
    """1, 2, 3, ... as long as the router is watched."""
    at_s: float
    whole: bool = False
    """What was told before is void: ``seen`` begins to tell of every flow there is, and where they
    are too many for one message the next ones go on."""
    seen: tuple[Sighting, ...] = ()
    """Flows that moved; one that moved several times is told of once."""
    passed: tuple[Passage, ...] = ()
    """Every transition is counted, whether or not its flow is in ``seen``."""
    ended: tuple[Ending, ...] = ()
