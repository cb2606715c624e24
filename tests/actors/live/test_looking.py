"""Who looks is told; when nobody does any more, nothing is heard or asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from actors.clock import monotone
from actors.live.looking import BEHIND, Live, Viewer
from actors.live.scene import Change, Scene, Whole
from bus.codec import decode, encode
from bus.interface import Handler, Message, Subscription, SubscriptionStatistics
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Beat
from bus.moves import Moves, Sighting, Watching
from bus.subjects import Subjects

BEAT = encode(Beat("e0", 1, "m", "both", 0, 9, 9, 16, 99, "c"))
SEEN = Sighting("f", "s@1", "Sending", 0.0)


class Router:
    """Hears who looks, and tells what it is told to."""

    def __init__(self, broker: MemoryBroker, bus: MemoryBus, viewers: MemoryBus) -> None:
        self.broker, self.bus, self.viewers = broker, bus, viewers
        self.watched: asyncio.Queue[Watching] = asyncio.Queue()

    async def listen(self) -> None:
        async def on_watch(message: Message) -> None:
            self.watched.put_nowait(decode(message.payload, Watching))

        await self.bus.subscribe("ms.watch", on_watch)

    async def tell(self, sequence: int, whole: bool = False) -> None:
        moves = Moves("r0", sequence, 0.0, whole, seen=(SEEN,))
        await self.bus.publish("ms.router.r0.moves", encode(moves))


@asynccontextmanager
async def live(patience_s: float = 5.0) -> AsyncIterator[tuple[Live, Router]]:
    broker = MemoryBroker()
    async with MemoryBus(broker, patience_s=patience_s) as ours, MemoryBus(broker) as theirs:
        router = Router(broker, theirs, ours)
        await router.listen()
        looking = Live(ours, Subjects(), monotone())
        running = asyncio.create_task(looking.run())
        try:
            async with asyncio.timeout(30):
                yield looking, router
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_who_begins_to_look_asks_for_everything_and_then_only_says_that_he_looks() -> None:
    async with live() as (looking, router):
        with looking.look() as viewer:
            first = await router.watched.get()
            await router.tell(1, whole=True)
            second = await router.watched.get()
            async for told in viewer:
                if told.flows:
                    break

        assert (first, second) == (Watching(whole=True), Watching())


async def test_a_message_that_was_missed_makes_it_ask_again() -> None:
    async with live() as (looking, router):
        with looking.look():
            await router.watched.get()
            await router.tell(1, whole=True)
            await router.tell(3)

            assert await router.watched.get() == Watching(whole=True)


async def test_when_nobody_looks_any_more_nothing_is_heard() -> None:
    async with live() as (looking, router):
        with looking.look() as viewer:
            await router.watched.get()
            await router.bus.publish("ms.beat.e0", BEAT)
            async for told in viewer:
                if told.engines:
                    break
        while looking.scene.engines:  # noqa: ASYNC110 - it forgets at its next turn
            await asyncio.sleep(0)

        await router.bus.publish("ms.beat.e0", BEAT)
        await router.bus.flush()

        assert looking.scene.engines == ()


async def test_who_comes_while_all_is_being_forgotten_sees_nothing_that_is_over() -> None:
    broker = MemoryBroker()
    async with SlowToPart(broker) as ours, MemoryBus(broker) as theirs, asyncio.timeout(30):
        router, looking = Router(broker, theirs, ours), Live(ours, Subjects(), monotone())
        await router.listen()
        running = asyncio.create_task(looking.run())
        with looking.look() as first:
            await router.watched.get()
            await router.tell(1, whole=True)
            async for told in first:
                if told.flows:
                    break
        await ours.is_parting.wait()

        with looking.look() as second:
            stale = await anext(second)
            ours.may_part.set()
            await router.watched.get()
            while not isinstance(again := await anext(second), Whole):
                pass

        assert stale.flows == (SEEN,)
        assert again.flows == ()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class SlowToPart(MemoryBus):
    """Ends no subscription before it may."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.is_parting, self.may_part = asyncio.Event(), asyncio.Event()

    async def subscribe(  # type: ignore[override] # it is a Subscription, as `Bus` wants it
        self, subject: str, handler: Handler, *, queue: str = "", max_pending: int = 65_536
    ) -> Subscription:
        found = await super().subscribe(subject, handler, queue=queue, max_pending=max_pending)
        return Parting(self, found)


@dataclass
class Parting:
    bus: SlowToPart
    subscription: Subscription

    async def unsubscribe(self) -> None:
        self.bus.is_parting.set()
        await self.bus.may_part.wait()
        await self.subscription.unsubscribe()

    def statistics(self) -> SubscriptionStatistics:
        return self.subscription.statistics()


async def test_a_viewer_who_is_far_behind_gets_the_whole_scene_again() -> None:
    viewer = Viewer(Scene(), lambda: 7.0)
    first = await anext(viewer)
    for number in range(BEHIND + 1):
        viewer.tell(Change(float(number)))

    again = await anext(viewer)
    viewer.tell(Change(9.0))

    assert isinstance(first, Whole)
    assert isinstance(again, Whole)
    assert await anext(viewer) == Change(9.0)


async def test_who_begins_to_look_while_the_broker_is_away_sees_it_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with live(patience_s=0.05) as (looking, router):
        broker, ours = router.broker, router.viewers
        broker.disconnect(ours)
        with looking.look():
            while "cannot be watched" not in caplog.text:  # noqa: ASYNC110 - a line in a log
                await asyncio.sleep(0.01)
            broker.reconnect(ours)

            assert await router.watched.get() == Watching(whole=True)
