"""The engine host's shell: one owner of the engine at a time; nothing is refused as early."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

from actors.clock import Clock, monotone
from actors.engine import EngineHost, NewsFeed
from actors.hosting import HostCore
from bus.codec import decode, encode
from bus.interface import Handler, Message, Subscription, SubscriptionStatistics
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import (
    Accepted,
    Answer,
    AnyCommand,
    Beat,
    Followed,
    Mailbox,
    Matched,
    Order,
    Progress,
    Query,
    Refused,
    Release,
    Released,
    Report,
    Sampling,
    StartGenerate,
)
from bus.public import Delta
from bus.subjects import Subjects
from bus.tokens import Tokens
from bus.transfers import Arrived
from engine.news import News
from engine.outcomes import Outcome, Output, Told
from observability.sink import NullSink

PROMPT = Tokens((1, 2))
QUERY = Query("e0", PROMPT)


class Stepping:
    """An engine that answers at once, and steps only while it is told to."""

    def __init__(self) -> None:
        self.has_work = False
        self.heard: list[Order | News] = []
        self.stepping, self.go_on = threading.Event(), threading.Event()
        self.made: deque[list[Outcome]] = deque()
        """What its next steps come to."""
        self.owners = 0

    def is_repeat(self, order: Order) -> bool:
        return False

    def handle(self, event: Order | News, now: float) -> list[Outcome]:
        self.heard.append(event)
        assert self.owners == 0, "the engine is on the device thread"
        if not isinstance(event, Order) or isinstance(event.command, StartGenerate):
            return []
        verb = type(event.command).__name__
        answer = Released() if verb == "Release" else Matched(len(self.heard), 0, 0)
        return [Told(event.flow, event.attempt, verb, answer)]

    def step(self, now: float) -> list[Outcome]:
        self.owners += 1
        self.stepping.set()
        assert self.go_on.wait(10)
        made = self.made.popleft() if self.made else []
        self.has_work = bool(self.made)
        self.owners -= 1
        return made


class Router:
    """The other side: gives orders, hears reports and beats."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.reports: asyncio.Queue[Report] = asyncio.Queue()
        self.followed: asyncio.Queue[Followed] = asyncio.Queue()
        self.beats: asyncio.Queue[Beat] = asyncio.Queue()
        self.host: asyncio.Task[None]

    async def listen(self) -> None:
        async def on_report(message: Message) -> None:
            self.reports.put_nowait(decode(message.payload, Report))

        async def on_beat(message: Message) -> None:
            self.beats.put_nowait(decode(message.payload, Beat))

        async def on_progress(message: Message) -> None:
            for more in decode(message.payload, Progress):
                self.followed.put_nowait(more)

        await self.bus.subscribe("ms.router.r0.event", on_report)
        await self.bus.subscribe("ms.router.r0.tokens", on_progress)
        await self.bus.subscribe("ms.beat.*", on_beat)

    async def order(self, command: AnyCommand, flow: str = "f") -> Accepted | Refused:
        return await self.send(type(command).__name__, encode(Order(flow, 1, "r0", command)))

    async def send(self, verb: str, payload: bytes) -> Accepted | Refused:
        reply = await self.bus.request(f"ms.engine.e0.{verb}", payload, timeout_s=5)
        answer: Accepted | Refused = decode(reply.payload, Accepted | Refused)
        return answer

    async def report(self) -> Answer:
        async with asyncio.timeout(5):
            return (await self.reports.get()).event


@asynccontextmanager
async def host(
    engine: Stepping | None = None,
    clock: Clock | None = None,
    bus: Callable[[MemoryBroker], MemoryBus] = MemoryBus,
) -> AsyncIterator[tuple[Stepping, EngineHost, Router]]:
    """Every beat that is made has a load of one more."""
    broker, engine, loads = MemoryBroker(), engine or Stepping(), count()
    async with MemoryBus(broker) as theirs, bus(broker) as ours:
        router = Router(theirs)
        await router.listen()
        core = HostCore("e0", 1, engine, Subjects())

        def beat() -> Beat:
            return Beat("e0", 1, "m", "both", next(loads), 1, 1, 16, 99, "c")

        host = EngineHost(ours, core, engine, beat, NullSink(), clock or monotone())
        task = router.host = asyncio.create_task(host.run())
        await host.ready.wait()
        try:
            yield engine, host, router
        finally:
            engine.go_on.set()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_an_order_is_accepted_and_then_reported() -> None:
    async with host() as (_, _, router):
        assert isinstance(await router.order(QUERY), Accepted)
        assert await router.report() == Matched(1, 0, 0)


async def test_an_order_during_a_step_is_accepted_at_once_and_carried_out_after_it() -> None:
    async with host() as (engine, _, router):
        engine.has_work = True
        await router.order(QUERY, "first")
        await asyncio.to_thread(engine.stepping.wait, 5)
        await router.report()

        assert isinstance(await router.order(QUERY, "second"), Accepted)
        assert len(engine.heard) == 1
        engine.go_on.set()

        assert await router.report() == Matched(2, 0, 0)


async def test_orders_that_waited_keep_their_order() -> None:
    async with host() as (engine, _, router):
        engine.has_work = True
        await router.order(QUERY, "first")
        await asyncio.to_thread(engine.stepping.wait, 5)
        for flow in "abc":
            await router.order(QUERY, flow)
        engine.go_on.set()
        for _ in range(4):
            await router.report()

        assert [o.flow for o in engine.heard if isinstance(o, Order)] == ["first", "a", "b", "c"]


class SlowToLeave(MemoryBus):
    """No subscription ends before `left` is set."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.leaving, self.left = asyncio.Event(), asyncio.Event()

    async def subscribe(  # type: ignore[override]  # as `Bus.subscribe`, which is all that is asked
        self, subject: str, handler: Handler, *, queue: str = ""
    ) -> Subscription:
        return Ending(self, await super().subscribe(subject, handler, queue=queue))


class Ending:
    def __init__(self, bus: SlowToLeave, inner: Subscription) -> None:
        self._bus, self._inner = bus, inner

    async def unsubscribe(self) -> None:
        self._bus.leaving.set()
        await self._bus.left.wait()
        await self._inner.unsubscribe()

    def statistics(self) -> SubscriptionStatistics:
        return self._inner.statistics()


async def test_an_order_during_the_last_step_of_a_host_that_is_stopped_is_left_alone() -> None:
    async with host(bus=SlowToLeave) as (engine, shell, router):
        assert isinstance(shell.bus, SlowToLeave)
        engine.has_work = True
        await router.order(QUERY, "first")
        await asyncio.to_thread(engine.stepping.wait, 5)

        router.host.cancel()
        await shell.bus.leaving.wait()
        assert isinstance(await router.order(QUERY, "late"), Accepted)
        await router.bus.flush()

        assert [o.flow for o in engine.heard if isinstance(o, Order)] == ["first"]
        engine.go_on.set()
        shell.bus.left.set()
        await asyncio.gather(router.host, return_exceptions=True)


async def test_a_transfer_event_from_another_thread_waits_for_the_step_too() -> None:
    async with host() as (engine, shell, router):
        transfers = NewsFeed(asyncio.get_running_loop())
        transfers.listen(shell.heard)
        engine.has_work = True
        await router.order(QUERY, "first")
        await asyncio.to_thread(engine.stepping.wait, 5)
        event = Arrived("a", 1, 5)
        thread = threading.Thread(target=transfers, args=(event,))
        thread.start()
        await asyncio.to_thread(thread.join)
        engine.go_on.set()
        await router.order(Release("e0"), "last")
        while await router.report() != Released():
            pass

        assert event in engine.heard


async def test_the_router_hears_the_last_tokens_when_no_step_follows_them() -> None:
    async with host() as (engine, _, router):
        box = Mailbox("box", "msgpack")
        engine.made.extend([Output("f", 1, box, Delta("f", i, (i,)))] for i in range(3))
        engine.has_work = True
        engine.go_on.set()

        await router.order(StartGenerate("e0", PROMPT, 0, Sampling(), box))

        heard: list[int] = []
        async with asyncio.timeout(5):
            while len(heard) < 3:
                heard += (await router.followed.get()).tokens
        assert heard == [0, 1, 2]


async def test_transfer_events_before_anybody_listens_are_kept() -> None:
    transfers, heard = NewsFeed(asyncio.get_running_loop()), list[News]()
    early, late = Arrived("a", 1, 1), Arrived("b", 1, 2)
    transfers(early)
    await asyncio.sleep(0)

    transfers.listen(heard.append)
    transfers(late)
    await asyncio.sleep(0)

    assert heard == [early, late]


async def test_unreadable_and_misdirected_orders_are_refused_in_words() -> None:
    async with host() as (engine, _, router):
        garbage = await router.send("Query", b"\xc1")
        mixed_up = await router.send("Query", encode(Order("f", 1, "r0", Release("e0"))))
        elsewhere = await router.send("Query", encode(Order("f", 1, "r0", Query("e9", PROMPT))))

        for refused, words in ((garbage, ""), (mixed_up, "Release"), (elsewhere, "e9")):
            assert isinstance(refused, Refused)
            assert refused.reason == "bad_message"
            assert words in refused.message
        assert engine.heard == []


async def test_the_last_beat_says_goodbye() -> None:
    async with host() as (_, _, router):
        async with asyncio.timeout(5):
            assert not (await router.beats.get()).leaving
        while not router.beats.empty():
            router.beats.get_nowait()
    # The host ended inside; what it said last is in the queue.
    assert router.beats.get_nowait().leaving


class SecondStepHangs(Stepping):
    """The first step is over at once, and the second only when it may go on."""

    def step(self, now: float) -> list[Outcome]:
        if self.has_made_a_step:
            return super().step(now)
        self.has_made_a_step = True
        return []

    has_made_a_step = False


async def test_a_beat_during_a_step_tells_what_was_so_before_it() -> None:
    seconds = count()
    async with host(SecondStepHangs(), lambda: float(next(seconds))) as (engine, _, router):
        at_rest = (await router.beats.get()).load
        engine.has_work = True
        await router.order(QUERY)
        await asyncio.to_thread(engine.stepping.wait, 5)

        async with asyncio.timeout(5):
            busy = (await router.beats.get()).load

        assert busy > at_rest
