"""A router process whose only strategy asks its engine again and again, and times every answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from msgspec import Struct

from actors.clock import monotone
from actors.effects import Effect, Send
from actors.intake import Limits
from actors.router import Desk, RouterHost
from actors.routing import RouterConfig, RouterCore, RouterInput
from bus.codec import encode
from bus.interface import Bus
from bus.messages import Event, Matched, Query, Report, Submitted
from bus.nats import NatsBus
from bus.public import GenerateRequest
from observability.spans import SpanContext, derive, trace_id_of, traceparent
from orchestrations.machine import Idle, Job, Preparing, State, Step, Strategy, common

from .conversation import Conversation, Ready, converse
from .fleet import (
    MAX_CONTEXT,
    MODEL,
    ROUTER,
    SUBJECTS,
    ActorConfig,
    NoTokenizer,
    running,
    settled,
    sink,
)


class Hops(Struct, frozen=True):
    """How many hops to time, in so many flows at once."""

    count: int
    in_flight: int
    num_prompt: int
    traced: bool


class Times(Struct, frozen=True):
    """Seconds of each round trip, and of all together."""

    each_s: list[float]
    all_s: float


def questioning(state: State, event: Event) -> Step:
    """Asks one engine what it knows of the prompt, until the user has had enough."""
    match state, event:
        case Idle(), Submitted(request, fleet):
            job = Job(request, decode=fleet.least_loaded())
            return Preparing(job), [Query(job.decode, job.prompt)]
        case Preparing(job), Matched():
            return state, [Query(job.decode, job.prompt)]
    return common(state, event)


class TimedCore(RouterCore):
    """Notes how long it was from each `Send` to the moment its report had been handled."""

    def __init__(self, config: RouterConfig, strategies: Mapping[str, Strategy]) -> None:
        super().__init__(config, strategies)
        self._sent_s: dict[str, float] = {}
        self._wanted = 0
        self.each_s: list[float] = []
        self.enough, self.idle = asyncio.Event(), asyncio.Event()

    def expect(self, count: int) -> None:
        """Begin anew; `enough` is set when ``count`` hops were timed."""
        self._wanted, self.each_s = count, []
        self.enough.clear()
        self.idle.clear()

    def handle(self, event: RouterInput, now: float) -> list[Effect]:
        effects = super().handle(event, now)
        at_s = time.perf_counter()
        if isinstance(event, Report) and event.flow in self._sent_s:
            self._timed(at_s - self._sent_s.pop(event.flow))
        self._sent_s.update((e.order.flow, at_s) for e in effects if isinstance(e, Send))
        if not self.flows:
            self.idle.set()
        return effects

    def _timed(self, seconds: float) -> None:
        self.each_s.append(seconds)
        if len(self.each_s) == self._wanted:
            self.enough.set()


async def main(conversation: Conversation) -> None:
    config = await conversation.hear(ActorConfig)
    core = TimedCore(RouterConfig(ROUTER, SUBJECTS, "questioning"), {"questioning": questioning})
    desk = Desk(NoTokenizer(), Limits(MAX_CONTEXT, 1000, ("questioning",)))
    with contextlib.closing(sink(config, ROUTER)) as spans:
        async with (
            NatsBus(config.url, name=ROUTER) as bus,
            running(RouterHost(bus, core, {MODEL: desk}, spans, monotone())),
        ):
            conversation.say(Ready())
            async for hops in conversation.questions(Hops):
                times = await measure(bus, core, hops)
                await settled(spans)
                conversation.say(times)


async def measure(bus: Bus, core: TimedCore, hops: Hops) -> Times:
    """Let flows ask until enough was timed, then withdraw them and wait until they are gone."""
    core.expect(hops.count)
    begin_s = time.perf_counter()
    request = GenerateRequest(prompt=tuple(range(hops.num_prompt)))
    for number in range(hops.in_flight):
        await bus.publish(
            SUBJECTS.generate(MODEL),
            encode(request),
            reply=bus.inbox(),
            headers=_parent(number, hops.traced),
        )
    await core.enough.wait()
    times = Times(core.each_s[: hops.count], time.perf_counter() - begin_s)
    for flow in core.flows:
        await bus.publish(SUBJECTS.cancel(flow), b"")
    await core.idle.wait()
    return times


def _parent(number: int, sampled: bool) -> dict[str, str]:
    """A caller's trace context; one that is not sampled is passed on and leaves no spans."""
    trace_id = trace_id_of(f"{time.time_ns()} {number}")
    return traceparent(SpanContext(trace_id, derive(trace_id, number), sampled))


if __name__ == "__main__":
    converse(main)
