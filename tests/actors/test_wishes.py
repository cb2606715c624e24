"""What operators wish of a router, and what they are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actors.effects import Effect, Send
from actors.routing import Asked, RouterConfig, RouterCore, RouterInput, Wished
from actors.wishes import Wishes
from bus.codec import decode_public
from bus.interface import RequestTimedOut
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Accepted, Beat, Mailbox, Refused, Request, Sampling
from bus.tokens import Tokens
from orchestrations.registry import strategies

AT_WORK, WAITING = "a" * 32, "b" * 32


class Operator:
    """Somebody at a router with one engine, which has room for one flow: two have come."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus, self.core = bus, RouterCore(RouterConfig("r0"), strategies())
        self.wished: list[RouterInput] = []
        self.core.handle(Beat("e0", 1, "m", "both", 0, 9, 9, 16, 999, "c", slots=1), 100.0)
        ordered = [e for flow in (AT_WORK, WAITING) for e in self.come(flow) if isinstance(e, Send)]
        assert [send.order.flow for send in ordered] == [AT_WORK]

    def come(self, flow: str) -> list[Effect]:
        request = Request(Tokens(range(8)), Sampling(), Mailbox("inbox"))
        return self.core.handle(Asked(flow, "m", request, "migrate_running"), 100.0)

    async def feed(self, event: RouterInput) -> None:
        self.wished.append(event)

    async def move(self, flow: str, engine: str) -> Accepted | Refused:
        subject = self.core.config.subjects.move(flow)
        reply = await self.bus.request(subject, engine.encode(), timeout_s=0.2)
        answer: Accepted | Refused = decode_public(reply.payload, Accepted | Refused)
        return answer


@asynccontextmanager
async def operator() -> AsyncIterator[Operator]:
    broker = MemoryBroker()
    async with MemoryBus(broker) as theirs, MemoryBus(broker) as ours:
        it = Operator(theirs)
        await Wishes(ours, it.core, it.feed, lambda: 100.0).listen()
        yield it


@pytest.mark.parametrize("name", [AT_WORK, AT_WORK[:6]])
async def test_a_wish_for_a_flow_is_fed_to_the_router_that_has_it(name: str) -> None:
    async with operator() as it:
        assert await it.move(name, "e0") == Accepted()

    assert it.wished == [Wished(AT_WORK, "e0")]


@pytest.mark.parametrize(
    ("flow", "engine", "reason", "words"),
    [
        (AT_WORK, "e9", "no_engine", "there are e0"),
        (WAITING, "e0", "busy", "waits for room"),
    ],
)
async def test_a_wish_that_cannot_be_told_is_refused_in_words(
    flow: str, engine: str, reason: str, words: str
) -> None:
    async with operator() as it:
        answer = await it.move(flow, engine)

    assert isinstance(answer, Refused)
    assert (answer.reason, it.wished) == (reason, [])
    assert words in answer.message


@pytest.mark.parametrize("name", ["c" * 32, AT_WORK[:5]])
async def test_nobody_answers_for_a_flow_that_he_has_not_or_not_for_sure(name: str) -> None:
    async with operator() as it:
        with pytest.raises(RequestTimedOut):
            await it.move(name, "e0")

    assert it.wished == []
