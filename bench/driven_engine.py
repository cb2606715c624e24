"""A whole engine and its KV transport without the bus: commands in, one by one, and what came of
them. No courier's event is lost between two commands."""

from __future__ import annotations

import queue
import time
from typing import Final, TypeVar

from msgspec import Struct

from bus.messages import (
    AnyCommand,
    EngineEvent,
    Finished,
    Mailbox,
    Order,
    Prepared,
    PrepRecv,
    Refused,
    Release,
    Released,
    RemoteSend,
    Sampling,
    Sent,
    StartGenerate,
)
from bus.tokens import Tokens
from bus.transfers import Arrived, TransferEvent
from engine.engine import Engine
from engine.outcomes import Outcome, Told

PATIENCE_S: Final = 60.0
_Event = TypeVar("_Event", bound=EngineEvent)


class Failed(Exception):
    """A command was refused, or nothing came of it."""


class Sending(Struct, frozen=True):
    """One prompt that was computed and sent."""

    prefill_s: float
    """From the command to the end of the last step."""
    sent: Sent


class DrivenEngine:
    def __init__(self, engine: Engine, events: queue.Queue[TransferEvent]) -> None:
        """``events`` is what the engine's courier tells."""
        self._engine, self._events = engine, events
        self._arrived: set[str] = set()
        self._told: dict[str, list[EngineEvent]] = {}
        self._computed_at = 0.0

    def prepare(self, flow: str, prompt: Tokens) -> bytes:
        """A grant for all of a prompt that was not seen before."""
        prepared = self._ask(flow, PrepRecv("", prompt), Prepared)
        if prepared.matched:
            raise Failed(f"{prepared.matched} tokens of {flow} were known already")
        return prepared.grant

    def send(self, flow: str, prompt: Tokens, grant: bytes) -> Sending:
        """Compute a prompt and send it, layer by layer."""
        begun = time.perf_counter()
        sent = self._ask(flow, RemoteSend("", prompt, grant), Sent)
        return Sending(self._computed_at - begun, sent)

    def prefill(self, flow: str, prompt: Tokens) -> float:
        """Seconds to compute a prompt, and one token after it, for nobody."""
        begun = time.perf_counter()
        sampling = Sampling(max_tokens=1, ignore_eos=True)
        self._ask(flow, StartGenerate("", prompt, 0, sampling, Mailbox("nobody")), Finished)
        return self._computed_at - begun

    def receive(self, flow: str) -> None:
        """Wait until everything is here, and let it go."""
        while flow not in self._arrived:
            self._hear()
        self._arrived.discard(flow)
        self._ask(flow, Release(""), Released)

    # --- steps ----------------------------------------------------------------------------------

    def _ask(self, flow: str, command: AnyCommand, kind: type[_Event]) -> _Event:
        self._note(self._engine.handle(Order(flow, 1, "", command), time.perf_counter()))
        while True:
            for event in self._told.pop(flow, []):
                if isinstance(event, kind):
                    return event
                if isinstance(event, Refused):
                    raise Failed(f"{event.verb} of {flow}: {event.reason}, {event.message}")
            self._advance()

    def _advance(self) -> None:
        if self._engine.has_work:
            self._note(self._engine.step(time.perf_counter()))
            self._computed_at = time.perf_counter()
        else:
            self._hear()

    def _hear(self) -> None:
        try:
            event = self._events.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise Failed(f"nothing happened for {PATIENCE_S:g} s") from None
        if isinstance(event, Arrived):
            self._arrived.add(event.flow)
        self._note(self._engine.handle(event, time.perf_counter()))

    def _note(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Told):
                self._told.setdefault(outcome.flow, []).append(outcome.event)
