"""The in-memory broker cuts a bus off and brings it back, for tests of what actors do then."""

from __future__ import annotations

import asyncio

import pytest

from bus.interface import Disconnected, NoResponders, RequestTimedOut
from bus.memory import MemoryBroker, MemoryBus

from .parties import Echo, Listener


async def test_to_others_a_bus_cut_off_is_gone() -> None:
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker) as there:
        await there.subscribe("a", Echo(there))

        broker.disconnect(there)

        with pytest.raises(NoResponders):
            await here.request("a", b"", timeout_s=5)
        assert not there.statistics().connected


async def test_what_was_published_to_a_bus_cut_off_is_lost() -> None:
    listener = Listener()
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker) as there:
        await there.subscribe("a.*", listener)

        broker.disconnect(there)
        await here.publish("a.b", b"lost")
        broker.reconnect(there)
        await here.publish("a.b", b"heard")

        await listener.wait_for(1)
        assert listener.payloads == [b"heard"]
        assert there.statistics().reconnects == 1


async def test_what_a_bus_cut_off_publishes_is_sent_in_order_when_it_is_back() -> None:
    listener = Listener()
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker) as there:
        await here.subscribe("a", listener)

        broker.disconnect(there)
        for payload in (b"1", b"2", b"3"):
            await there.publish("a", payload)
        await here.flush()
        assert listener.heard == []
        broker.reconnect(there)

        await listener.wait_for(3)
        assert listener.payloads == [b"1", b"2", b"3"]


async def test_a_bus_cut_off_keeps_a_bounded_number_of_bytes() -> None:
    broker = MemoryBroker()
    async with MemoryBus(broker, reconnect_buffer_bytes=10) as bus:
        broker.disconnect(bus)
        await bus.publish("a", b"x" * 10)

        with pytest.raises(Disconnected, match="10 bytes wait"):
            await bus.publish("a", b"x")

        broker.reconnect(bus)
        await bus.publish("a", b"x" * 10)
        assert bus.statistics().published == 2


async def test_a_request_from_a_bus_cut_off_times_out() -> None:
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker) as there:
        await here.subscribe("a", Echo(here))
        broker.disconnect(there)

        with pytest.raises(RequestTimedOut):
            await there.request("a", b"", timeout_s=0.01)

        broker.reconnect(there)


async def test_flush_and_subscribe_wait_until_a_bus_is_back() -> None:
    listener = Listener()
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker) as there:
        broker.disconnect(there)
        subscribing = asyncio.create_task(there.subscribe("a", listener))
        flushing = asyncio.create_task(there.flush())
        await here.flush()
        assert not subscribing.done()
        assert not flushing.done()

        broker.reconnect(there)

        await asyncio.gather(subscribing, flushing)
        await here.publish("a", b"x")
        await listener.wait_for(1)


async def test_a_subscription_that_cannot_be_confirmed_is_not_made() -> None:
    broker = MemoryBroker()
    async with MemoryBus(broker) as here, MemoryBus(broker, patience_s=0.01) as there:
        broker.disconnect(there)
        with pytest.raises(Disconnected):
            await there.subscribe("a", Listener())

        broker.reconnect(there)

        with pytest.raises(NoResponders):
            await here.request("a", b"", timeout_s=5)


async def test_leaving_does_not_wait_for_ever_for_a_handler() -> None:
    cancelled = asyncio.Event()

    async def stuck(message: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with MemoryBus(MemoryBroker(), patience_s=0.01) as bus:
        await bus.subscribe("a", stuck)
        await bus.publish("a", b"")
        await bus.flush()

    assert cancelled.is_set()


async def test_a_seed_decides_who_of_a_queue_group_is_chosen() -> None:
    async def shares(seed: int) -> list[int]:
        broker = MemoryBroker(seed=seed)
        members = [Listener(), Listener()]
        async with MemoryBus(broker) as bus:
            for member in members:
                await bus.subscribe("a", member, queue="q")
            for number in range(20):
                await bus.publish("a", str(number).encode())
        return [int(payload) for payload in members[0].payloads]

    assert await shares(1) == await shares(1)
    assert await shares(1) != await shares(2)
