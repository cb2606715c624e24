"""The router host's shell: how an order gets to its engine, and what if it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from math import nan
from typing import Any

import pytest

from actors.client import Client
from actors.clock import Clock, monotone
from actors.intake import Limits
from actors.patience import Patience
from actors.roster import LOST_AFTER_S
from actors.router import Desk, Lasting, RouterHost
from actors.routing import RouterConfig, RouterCore
from actors.version_store import VersionStore
from actors.versions import Version, version_key
from bus.buckets import BucketConfig, Entry, Watcher
from bus.codec import decode, encode
from bus.interface import BusStatistics, Headers, Message, NoResponders, Subscription
from bus.memory import MemoryBroker, MemoryBus
from bus.memory_buckets import MemoryKeyValue
from bus.messages import Accepted, Beat, Finished, Order, Refused, Release, Report, Usage
from bus.public import ChatMessage, Done, GenerateRequest, Welcome
from observability.sink import NullSink
from orchestrations.registry import strategies

REQUEST = GenerateRequest(prompt="hello", orchestration="data_parallel")
Reply = Accepted | Refused | bytes | None
"""Bytes are sent as they are."""
Answer = Callable[[Order, int], Awaitable[Reply]]


class Letters:
    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat(self, messages: Sequence[ChatMessage], tools: object = ()) -> list[int]:
        return []


class RouterBus(MemoryBus):
    """A bus that counts what a router learns from it."""

    asked = 0
    """How often it was asked how it is."""
    unheard = 0
    """Requests that nobody heard."""

    def statistics(self) -> BusStatistics:
        self.asked += 1
        return super().statistics()

    async def request(
        self, subject: str, payload: bytes, *, timeout_s: float, headers: Headers | None = None
    ) -> Message:
        try:
            return await super().request(subject, payload, timeout_s=timeout_s, headers=headers)
        except NoResponders:
            self.unheard += 1
            raise


class Watch:
    """A clock that goes on by a step when it is read, and counts how often it was."""

    def __init__(self) -> None:
        self.now_s, self.step_s, self.read = 0.0, 0.0, 0

    def __call__(self) -> float:
        self.read += 1
        self.now_s += self.step_s
        return self.now_s


class System:
    """A router, and an engine that is a script."""

    def __init__(
        self,
        broker: MemoryBroker,
        client: Client,
        core: RouterCore,
        router_bus: RouterBus,
        engine_bus: MemoryBus,
    ) -> None:
        self.broker, self.client, self.core = broker, client, core
        self.router_bus, self.engine_bus = router_bus, engine_bus
        self.orders: list[Order] = []
        self.task: asyncio.Task[None]

    def lose_broker(self) -> None:
        """Both lose it, and the router has it again first."""
        self.broker.disconnect(self.router_bus)
        self.broker.disconnect(self.engine_bus)
        self.broker.reconnect(self.router_bus)

    async def ask(self) -> Done:
        async for message in self.client.generate("m", REQUEST):
            if isinstance(message, Done):
                return message
        raise AssertionError("no end")


@asynccontextmanager
async def system(
    answer: Answer | None, versions: VersionStore | None = None, clock: Clock | None = None
) -> AsyncIterator[System]:
    broker = MemoryBroker()
    async with (
        RouterBus(broker) as router_bus,
        MemoryBus(broker) as engine_bus,
        MemoryBus(broker) as client_bus,
        Client(client_bus) as client,
    ):
        core = RouterCore(RouterConfig("r0"), strategies())
        desks = {"m": Desk(Letters(), Limits(1000, 256, tuple(strategies())))}
        patience, lasting = Patience(0.05, settle_s=0, again_after_s=0), Lasting(versions)
        host = RouterHost(
            router_bus, core, desks, NullSink(), clock or monotone(), patience, lasting
        )
        it = System(broker, client, core, router_bus, engine_bus)
        it.task = asyncio.create_task(host.run())

        async def on_order(message: Message) -> None:
            it.orders.append(decode(message.payload, Order))
            assert answer is not None
            reply = await answer(it.orders[-1], len(it.orders))
            if reply is not None:
                payload = reply if isinstance(reply, bytes) else encode(reply)
                await engine_bus.publish(message.reply, payload)
            if isinstance(reply, Accepted) and not isinstance(it.orders[-1].command, Release):
                order = it.orders[-1]
                finished = Finished("stop", Usage())
                report = Report(order.flow, order.attempt, "e0", 1, finished)
                await engine_bus.publish(f"ms.router.{order.router}.event", encode(report))

        if answer is not None:
            await engine_bus.subscribe("ms.engine.e0.*", on_order)
        await host.ready.wait()
        beat = Beat("e0", 1, "m", "both", 0, 1, 1, 16, 99, "c")
        await engine_bus.publish("ms.beat.e0", encode(beat))
        await engine_bus.flush()
        await until(lambda: bool(core.roster.seen))
        try:
            yield it
        finally:
            it.task.cancel()
            await asyncio.gather(it.task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def settled(it: System) -> None:
    await until(lambda: not it.core.flows)


@asynccontextmanager
async def started(it: System) -> AsyncIterator[None]:
    """A request whose answer nobody waits for."""
    async with aclosing(it.client.generate("m", REQUEST)) as stream:
        assert isinstance(await anext(stream), Welcome)
        yield


async def test_an_order_that_is_not_accepted_in_time_is_said_again() -> None:
    async def second_time(order: Order, count: int) -> Accepted | None:
        return Accepted() if count == 2 else None

    async with system(second_time) as it:
        async with started(it):
            await settled(it)

        assert it.orders[0] == it.orders[1]
        assert it.core.statistics().outcomes == {"finished": 1}


async def test_an_engine_that_never_accepts_is_given_up() -> None:
    async def never(order: Order, count: int) -> None:
        return None

    async with system(never) as it:
        done = await it.ask()

    assert done.reason == "error"
    assert "e0 was lost" in done.message


async def test_an_engine_that_nobody_hears_is_lost_at_once() -> None:
    async with system(None, clock=Watch()) as it:
        done = await it.ask()

    assert done.reason == "error"
    assert "e0 was lost" in done.message


async def accept(order: Order, count: int) -> Accepted:
    return Accepted()


async def test_an_engine_that_is_back_at_the_broker_after_us_is_not_taken_for_lost() -> None:
    async with system(accept, clock=Watch()) as it:
        it.lose_broker()
        async with started(it):
            await until(lambda: it.router_bus.unheard >= 3)
            it.broker.reconnect(it.engine_bus)
            await settled(it)

    assert it.core.statistics().outcomes == {"finished": 1}
    assert len(it.orders) == 1


async def test_an_engine_that_stays_away_from_the_broker_is_lost_no_later_than_by_its_beats() -> (
    None
):
    watch = Watch()
    async with system(accept, clock=watch) as it:
        it.lose_broker()
        asked = asyncio.create_task(it.ask())
        await until(lambda: it.router_bus.unheard >= 3)
        watch.now_s += LOST_AFTER_S  # of a beat, this is not too long yet
        done = await asked

    assert "e0 was lost" in done.message


async def test_an_engine_that_nobody_hears_long_after_an_outage_is_lost_at_once() -> None:
    watch = Watch()
    async with system(accept, clock=watch) as it:
        it.lose_broker()
        it.router_bus.asked = 0
        await until(lambda: it.router_bus.asked >= 1)
        watch.now_s += LOST_AFTER_S

        done = await it.ask()  # time stands still: it would be asked again for ever

    assert "e0 was lost" in done.message


async def test_an_order_turned_down_at_the_door_ends_the_flow_in_its_words() -> None:
    async def turn_down(order: Order, count: int) -> Refused:
        return Refused(type(order.command).__name__, "bad_message", "not readable")

    async with system(turn_down) as it:
        done = await it.ask()

    assert "not readable" in done.message


async def test_a_router_that_is_stopped_begins_nothing_that_waited() -> None:
    async def keep(order: Order, count: int) -> Accepted | None:
        return Accepted() if isinstance(order.command, Release) else None

    async with system(keep) as it:
        asked = [asyncio.create_task(it.ask()) for _ in range(3)]
        await until(lambda: len(it.core.flows) == 3 and bool(it.orders))
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)

        assert [(await one).reason for one in asked] == ["cancelled"] * 3
        assert {order.flow for order in it.orders} == {it.orders[0].flow}


async def test_an_answer_that_cannot_be_read_ends_the_flow_and_not_the_router() -> None:
    async def mumble(order: Order, count: int) -> bytes | Accepted:
        return b"\xc1" if count == 1 else Accepted()

    async with system(mumble) as it:
        done = await it.ask()

        assert done.reason == "error"
        assert "is malformed" in done.message
        async with started(it):
            await settled(it)
        assert it.core.statistics().outcomes == {"refused": 1, "finished": 1}


async def test_a_router_that_is_stopped_ends_its_flows_and_frees_their_pages() -> None:
    async def keep(order: Order, count: int) -> Accepted | None:
        return Accepted() if isinstance(order.command, Release) else None

    async with system(keep) as it:
        asked = asyncio.create_task(it.ask())
        await until(lambda: bool(it.orders))
        it.task.cancel()
        done = await asked

        assert done.reason == "cancelled"
        await asyncio.gather(it.task, return_exceptions=True)
        assert isinstance(it.orders[-1].command, Release)


async def test_unreadable_messages_are_survived() -> None:
    async with system(accept) as it, MemoryBus(it.broker) as bus:
        for subject in ("ms.beat.e0", "ms.router.r0.event", "ms.router.r0.tokens"):
            await bus.publish(subject, b"\xc1")
        beat = Beat("e9", 1, "m", "both", 0, 9, 9, 16, 99, "c", prefill_tokens_per_s=nan)
        await bus.publish("ms.beat.e9", encode(beat))
        await bus.publish("ms.flow.nobody.cancel", b"")

        async with started(it):
            await settled(it)
        assert it.core.statistics().outcomes == {"finished": 1}
        assert list(it.core.roster.seen) == ["e0"]


async def test_a_router_that_is_stopped_hears_nothing_more() -> None:
    async with system(None) as it:
        it.task.cancel()
        await asyncio.gather(it.task, return_exceptions=True)

        async with MemoryBus(it.broker) as bus:
            beat = Beat("e1", 1, "m", "both", 0, 1, 1, 16, 99, "c")
            await bus.publish("ms.beat.e1", encode(beat))
            with pytest.raises(NoResponders):
                await bus.request("ms.generate.m", b"{}", timeout_s=5)

        assert list(it.core.roster.seen) == ["e0"]


class LastWord(MemoryKeyValue):
    """Its watchers are told of a version that cannot be loaded just before they leave."""

    async def watch(self, watcher: Watcher, pattern: str = ">") -> Any:
        return Leaving(await super().watch(watcher, pattern), watcher)


class Leaving:
    def __init__(self, watch: Subscription, watcher: Watcher) -> None:
        self._watch, self._watcher = watch, watcher

    async def unsubscribe(self) -> None:
        version = Version("mine", 1, "no python", "mine.py", "")
        await self._watcher(Entry(version_key(version.ref), encode(version), 1, 0.0))
        await self._watch.unsubscribe()


async def test_a_version_that_comes_while_a_router_is_stopped_is_dealt_with() -> None:
    versions = VersionStore(LastWord(BucketConfig("ms_orchestrations", 64), monotone()))

    async with system(None, versions) as it:
        it.task.cancel()
        ended = await asyncio.gather(it.task, return_exceptions=True)

    assert [type(error) for error in ended] == [asyncio.CancelledError]


async def test_a_router_that_lost_the_broker_takes_no_engine_for_lost() -> None:
    broker, watch = MemoryBroker(), Watch()
    async with RouterBus(broker) as bus, MemoryBus(broker) as engine:
        core = RouterCore(RouterConfig("r0"), strategies())
        host = RouterHost(bus, core, {}, NullSink(), watch, Patience(settle_s=0))
        task = asyncio.create_task(host.run())
        await host.ready.wait()
        await engine.publish("ms.beat.e0", encode(Beat("e0", 1, "m", "both", 0, 1, 1, 16, 99, "c")))
        await until(lambda: bus.asked + watch.read >= 3)  # the beat, and a tick

        broker.disconnect(bus)
        bus.asked, watch.read, watch.step_s = 0, 0, 0.9
        await until(lambda: bus.asked + watch.read >= 3)
        watch.now_s += 100
        broker.reconnect(bus)
        watch.read = 0
        await until(lambda: watch.read >= 1)
        known = list(core.roster.seen)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert known == ["e0"]
