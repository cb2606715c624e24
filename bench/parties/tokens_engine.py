"""An engine process whose engine computes nothing: every step has one token for every stream.

The host, its core, the device thread and the bus are the real ones. The engine inside is the least
that they can be shown, so that what is measured is the way of the tokens.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from actors.clock import monotone
from actors.engine import EngineHost
from actors.hosting import HostCore
from bus.messages import Order, Release, Released, StartGenerate
from bus.nats import NatsBus
from bus.transfers import Arrived
from engine.news import News
from engine.outcomes import Outcome, Output, Told
from observability.sink import NullSink

from .conversation import Conversation, Ready, converse
from .fleet import ENGINE, EPOCH, SUBJECTS, ActorConfig, beat, running
from .streams import Emit, Encoding, Pace, delta_at

NUDGE = Arrived("", 0, 0)
"""A transfer event of nobody: it changes nothing, but the host looks for work after it."""


class _Stream:
    def __init__(self, order: Order, command: StartGenerate) -> None:
        self.flow, self.attempt, self.reply = order.flow, order.attempt, command.reply
        self.number, self.offset = command.sampling.seed, 0

    def next(self) -> Output:
        message = delta_at(self.flow, self.number, self.offset)
        self.offset += 1
        return Output(self.flow, self.attempt, self.reply, message)


class Emitter:
    """`actors.hosting.Engine` and `actors.engine.SteppingEngine`, without a model."""

    def __init__(self) -> None:
        self._streams: dict[Encoding, list[_Stream]] = defaultdict(list)
        self._emitting: list[_Stream] = []
        self._num_steps, self._pace = 0, Pace(0.0)

    async def emit(self, emit: Emit) -> None:
        """Have the next steps planned as soon as all streams are open."""
        while len(self._streams[emit.encoding]) < emit.num_streams:  # noqa: ASYNC110 - once a run
            await asyncio.sleep(0.001)
        self._emitting = self._streams[emit.encoding]
        self._num_steps, self._pace = emit.num_steps, Pace(emit.interval_s)

    def is_repeat(self, order: Order) -> bool:
        return False

    def handle(self, event: Order | News, now: float) -> list[Outcome]:
        if not isinstance(event, Order):
            return []
        match event.command:
            case StartGenerate() as command:
                self._streams[command.reply.encoding].append(_Stream(event, command))
            case Release():
                return [Told(event.flow, event.attempt, "Release", Released())]
        return []

    @property
    def has_work(self) -> bool:
        return self._num_steps > 0

    def step(self, now: float) -> list[Outcome]:
        """On the device thread."""
        self._pace.wait()
        self._num_steps -= 1
        return [stream.next() for stream in self._emitting]


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    emitter = Emitter()
    core = HostCore(ENGINE, EPOCH, emitter, SUBJECTS)
    async with NatsBus(config.url, name=ENGINE) as bus:
        host = EngineHost(bus, core, emitter, beat, NullSink(), monotone())
        async with running(host):
            conversation.say(Ready())
            async for emit in conversation.questions(Emit):
                await emitter.emit(emit)
                host.heard(NUDGE)
                conversation.say(Ready())


if __name__ == "__main__":
    converse(main)
