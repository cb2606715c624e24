"""A strategy played by hand: one request, a few engines, one event after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bus.fleet import Engine, Fleet
from bus.messages import Event, Mailbox, Request, Sampling, Submitted
from bus.tokens import Tokens
from orchestrations.machine import Idle, Instruction, State, Strategy

PROMPT: Final = Tokens(range(40))
REQUEST: Final = Request(PROMPT, Sampling(max_tokens=7), Mailbox("answers"))
FLEET: Final = Fleet((Engine("p0", "prefill"), Engine("d0", "decode"), Engine("d1", "decode", 3)))


def play(
    strategy: Strategy, *events: Event, fleet: Fleet = FLEET
) -> tuple[State, Sequence[Instruction]]:
    """The state and the last commands after a request is submitted and these events have come."""
    state, commands = strategy(Idle(), Submitted(REQUEST, fleet))
    for event in events:
        state, commands = strategy(state, event)
    return state, list(commands)
