"""The engine host: an `Engine` on the bus.

```
bus loop      | orders, transfers, grammars -> HostCore -> reports, tokens, beats |
device thread |                    engine.step, one at a time                     |
```

The engine has one owner at a time. While a step is on the device thread, orders are accepted and
wait; between steps they are handled on the loop, where they take microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, BusError, Message
from bus.messages import Accepted, Beat, Order, Refused
from bus.subjects import last
from engine.news import News
from engine.outcomes import Outcome
from observability.sink import SpanSink
from observability.spans import SpanContext, parse_traceparent

from .cachenews import CacheNews
from .carrier import Carrier
from .clock import Clock
from .device import DeviceThread
from .hosting import HostCore
from .roster import BEAT_INTERVAL_S

logger = logging.getLogger("microserve.engine")

GOODBYE_WITHIN_S = 1.0
LOOK_EVERY_S = 0.02
"""A busy engine is in a step at nearly every beat. So what a beat tells is gathered between two
steps, and is no older than this and a step."""

_ACCEPTED = encode(Accepted())


class SteppingEngine(Protocol):
    def step(self, now: float) -> list[Outcome]: ...

    @property
    def has_work(self) -> bool: ...


class _Ordered(Struct, frozen=True):
    order: Order
    parent: SpanContext | None


_Pending: TypeAlias = _Ordered | News


class NewsFeed:
    """News on its way from the threads of transport and grammars to the loop, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._early: list[News] = []
        self._handler: Callable[[News], None] = self._early.append

    def __call__(self, event: News) -> None:
        """Take an event, from any thread. After the loop has ended nobody is there to care."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hand_on, event)

    def listen(self, handler: Callable[[News], None]) -> None:
        """Call ``handler`` on the loop for every event, those that came before included."""
        self._handler = handler
        for event in self._early:
            handler(event)

    def _hand_on(self, event: News) -> None:
        self._handler(event)


class EngineHost:
    """Runs until cancelled; then says goodbye with a last beat.

    ``beat`` makes the heartbeat from the engine's statistics; it is called between steps, and so is
    ``news``, which tells routers what the prefix cache has.
    """

    def __init__(
        self,
        bus: Bus,
        core: HostCore,
        engine: SteppingEngine,
        beat: Callable[[], Beat],
        sink: SpanSink,
        clock: Clock,
        news: CacheNews | None = None,
    ) -> None:
        self.bus, self.core, self.engine, self.clock = bus, core, engine, clock
        self._beat, self._news = beat, news
        self._snapshot_wanted = False
        self._carrier = Carrier(bus, sink)
        self._pending: deque[_Pending] = deque()
        self._stepping = False
        self._wake = asyncio.Event()
        self._latest, self._looked_s = beat(), clock()
        self.ready = asyncio.Event()
        """Set when the engine listens and the first beat is out."""

    async def run(self) -> None:
        device = DeviceThread[list[Outcome]]()
        subjects, name = self.core.subjects, self.core.name
        subscription = await self.bus.subscribe(subjects.commands(name), self._on_order)
        asked = await self.bus.subscribe(subjects.cache_snapshot(name), self._on_snapshot_wanted)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._beats())
                tasks.create_task(self._work(device))
        finally:
            await asked.unsubscribe()
            await subscription.unsubscribe()
            await self._goodbye()
            device.close()

    def heard(self, event: News) -> None:
        """Hand in what the KV transport or the compiler of grammars said, on the loop."""
        self._enqueue(event)

    # --- orders ---

    async def _on_order(self, message: Message) -> None:
        try:
            order = self._read(message)
        except Undecodable as error:
            verb = last(message.subject)
            logger.warning("unreadable %s: %s", verb, error)
            await self._reply(message, encode(Refused(verb, "bad_message", str(error))))
            return
        await self._reply(message, _ACCEPTED)
        parent = parse_traceparent(message.headers)
        await self._take(_Ordered(order, parent))

    def _read(self, message: Message) -> Order:
        order = decode(message.payload, Order)
        verb = last(message.subject)
        if type(order.command).__name__ != verb:
            raise Undecodable(f"a {type(order.command).__name__} came on the subject of {verb}")
        if order.command.engine != self.core.name:
            raise Undecodable(f"meant for {order.command.engine}, this is {self.core.name}")
        return order

    async def _reply(self, message: Message, payload: bytes) -> None:
        if message.reply:
            await self.bus.publish(message.reply, payload)

    # --- the engine's one owner ---

    def _enqueue(self, event: _Pending) -> None:
        self._pending.append(event)
        self._wake.set()

    async def _take(self, item: _Pending) -> None:
        """Handle at once where the engine is ours now; else after the step that has it."""
        if self._stepping or self._pending:
            self._enqueue(item)
            return
        await self._handle(item)

    async def _handle(self, item: _Pending) -> None:
        now = self.clock()
        if isinstance(item, _Ordered):
            effects = self.core.order(item.order, item.parent, now)
        else:
            effects = self.core.news(item, now)
        if self.engine.has_work:
            self._wake.set()
        await self._carrier.carry(effects)
        await self._tell_cache()

    async def _work(self, device: DeviceThread[list[Outcome]]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending or self.engine.has_work:
                while self._pending:
                    await self._handle(self._pending.popleft())
                if self.engine.has_work:
                    await self._step(device)
            await self._carrier.carry(self.core.follow(self.clock()))

    async def _step(self, device: DeviceThread[list[Outcome]]) -> None:
        self._stepping = True
        outcomes = await device.run(partial(self.engine.step, self.clock()))
        self._stepping = False  # not where we were cancelled: the step goes on, and has the engine
        if self.clock() - self._looked_s > LOOK_EVERY_S:
            self._look()
        await self._carrier.carry(self.core.outcomes(outcomes, self.clock()))
        await self._tell_cache()

    # --- the prefix cache ---

    async def _on_snapshot_wanted(self, _: Message) -> None:
        self._snapshot_wanted = True
        await self._tell_cache()

    async def _tell_cache(self) -> None:
        """Where a step has the engine, the call after it does this."""
        if self._news is None or self._stepping:
            return
        wanted, self._snapshot_wanted = self._snapshot_wanted, False
        told = self._news.snapshot() if wanted else self._news.news(self.clock())
        await self._carrier.carry(told)

    # --- beats ---

    async def _beats(self) -> None:
        while True:
            await self._tell_cache()
            if not self._stepping:
                self._look()
            await self._send_beat(self._latest)
            if not self.ready.is_set():
                await self.bus.flush()
                self.ready.set()
            await asyncio.sleep(BEAT_INTERVAL_S)

    def _look(self) -> None:
        """A beat that comes while a step has the engine tells what was seen last."""
        self._latest, self._looked_s = self._beat(), self.clock()

    async def _send_beat(self, beat: Beat) -> None:
        await self.bus.publish(self.core.subjects.beat(self.core.name), encode(beat))

    async def _goodbye(self) -> None:
        """Routers that hear it need not wait for our silence; where the broker is away, they do."""
        try:
            async with asyncio.timeout(GOODBYE_WITHIN_S):
                await self._send_beat(replace(self._latest, leaving=True))
                await self.bus.flush()
        except (BusError, TimeoutError) as error:
            logger.warning("left without a goodbye: %r", error)
