"""The fleets and requests that a strategy is tried on before it may serve anybody."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from bus.fleet import Engine, Fleet
from bus.messages import Mailbox, Request, Sampling
from bus.tokens import Tokens

from .answers import PAGE_SIZE

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
}
"""The loads differ, so that the engine left over after a loss is not always the decoder."""

PROMPT_LENGTHS: Final = (1, PAGE_SIZE, 3 * PAGE_SIZE + 2)
"""Nothing to send; a page but for the token that the decoder computes; several pages and a bit."""


class Shape(Struct, frozen=True):
    """One fleet and one request."""

    name: str
    fleet: Fleet
    request: Request


def shape(fleet_name: str, num_tokens: int) -> Shape:
    """A prompt of so many tokens on one of `FLEETS`."""
    request = Request(Tokens(range(num_tokens)), Sampling(), Mailbox("answers"))
    return Shape(f"{fleet_name}; prompt of {num_tokens}", FLEETS[fleet_name], request)


SHAPES: Final = tuple(shape(name, n) for name in FLEETS for n in PROMPT_LENGTHS)
