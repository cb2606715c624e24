"""The fleets and requests that a strategy is tried on before it may serve anybody."""

from __future__ import annotations

from functools import partial
from typing import Final

from msgspec import Struct

from bus.fleet import Engine, Fleet
from bus.messages import Mailbox, Request, Sampling
from bus.tokens import Tokens

from .answers import PAGE_SIZE

_measured = partial(Engine, prefill_tokens_per_s=300.0, transfer_bytes_per_s=1e9)

FLEETS: Final[dict[str, Fleet]] = {
    "1 both": Fleet((Engine("x0"),)),
    "1 prefill, 1 decode": Fleet((Engine("p0", "prefill"), Engine("d0", "decode", load=2))),
    "1 prefill, 2 decode": Fleet(
        (Engine("p0", "prefill"), Engine("d0", "decode"), Engine("d1", "decode", load=3))
    ),
    "2 prefill, 1 decode": Fleet(
        (Engine("p0", "prefill"), Engine("p1", "prefill", load=1), Engine("d0", "decode", load=5))
    ),
    "1 prefill, 1 decode, 1 both": Fleet(
        (Engine("p0", "prefill"), Engine("d0", "decode", load=9), Engine("x0", load=1))
    ),
    "2 of a group, 1 measured": Fleet(
        (
            _measured("x0", load=4, cached=32, waiting_tokens=900, group="law"),
            _measured("x1", load=1),
            Engine("x2", "decode", load=2, group="law"),
        )
    ),
    "1 prefill, 1 busy decode, measured": Fleet(
        (
            _measured("p0", "prefill", waiting_tokens=10),
            _measured("d0", "decode", load=1, waiting_tokens=20, decode_base_s=0.04),
        )
    ),
    "1 prefill, 1 warm decode": Fleet(
        (Engine("p0", "prefill"), Engine("d0", "decode", cached=3 * PAGE_SIZE))
    ),
}
"""The loads differ, so that the engine left over after a loss is not always the decoder."""

PROMPT_LENGTHS: Final = (1, PAGE_SIZE, 3 * PAGE_SIZE + 2)
"""Nothing to send; a page but for the token that the decoder computes; several pages and a bit."""


DIRECTIONS: Final = {
    "1 both": 1,
    "1 prefill, 1 decode": 2,
    "1 prefill, 2 decode": 1,
    "1 prefill, 1 decode, 1 both": 1,
}
"""How often an operator wants a flow elsewhere: twice, to see what a second time meets, but not
everywhere, since that is the same on all fleets and takes long."""


class Shape(Struct, frozen=True):
    """One fleet and one request."""

    name: str
    fleet: Fleet
    request: Request
    directions: int = 0
    """How often an operator wants the flow elsewhere, on one path."""


def shape(fleet_name: str, num_tokens: int) -> Shape:
    """A prompt of so many tokens on one of `FLEETS`."""
    request = Request(Tokens(range(num_tokens)), Sampling(), Mailbox("answers"), group="law")
    fleet = FLEETS[fleet_name]
    directions = DIRECTIONS.get(fleet_name, 0)
    return Shape(f"{fleet_name}; prompt of {num_tokens}", fleet, request, directions)


def context(fleet_name: str, engine: str = "") -> Shape:
    """A context that is to be kept, at an engine if one is named, with nothing to be generated."""
    name = f"{fleet_name}; context for {engine or 'anybody'}"
    prompt, sampling = Tokens(range(max(PROMPT_LENGTHS))), Sampling(max_tokens=0)
    request = Request(prompt, sampling, Mailbox("answers"), engine=engine)
    return Shape(name, FLEETS[fleet_name], request)


def _lengths(fleet: Fleet) -> tuple[int, ...]:
    """Every length where that is cheap; of three engines, what differs is who is left."""
    return PROMPT_LENGTHS if len(fleet.engines) < 3 else PROMPT_LENGTHS[-1:]


SHAPES: Final = (
    *(shape(name, n) for name, fleet in FLEETS.items() for n in _lengths(fleet)),
    context("1 prefill, 1 decode", "d0"),
    context("1 prefill, 2 decode"),
)
