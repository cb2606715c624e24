"""A client that loses a real broker in the middle of an answer reads on from where it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

from actors.client import Client
from actors.session import Generation, Session, Token
from bus.messages import Sampling
from bus.nats import NatsBus
from bus.public import GenerateRequest
from bus.server import EmbeddedServer
from engine.fake import FakeRunner
from tests.bus.parties import reach
from tests.system.on_nats import CARD, MODEL, Line, Pace, Served, served

COUNT = 40
ASK = GenerateRequest(prompt=tuple(range(9)), max_tokens=COUNT, temperature=1.0, seed=5)
EXPECTED = tuple(
    FakeRunner(CARD).continuation(range(9), COUNT, Sampling(temperature=1.0, seed=5))
)  # fmt: skip


def assert_whole(tokens: list[Token]) -> None:
    """Every token once, in its place."""
    assert tuple(number for token in tokens for number in token.ids) == EXPECTED
    assert tokens[0].offset == 0
    for one, after in pairwise(tokens):
        assert after.offset == one.offset + len(one.ids)


@dataclass
class Interrupted:
    """An answer that is read over a line of its own, the first five messages of it already."""

    server: EmbeddedServer
    system: Served
    line: Line
    bus: NatsBus
    generation: Generation
    first: list[Token]


@asynccontextmanager
async def interrupted(pace: Pace) -> AsyncIterator[Interrupted]:
    """The line is cut, and the rest of the answer is not computed before the pace goes on."""
    async with (
        EmbeddedServer() as server,
        served(server.url, pace) as system,
        Line(server.url) as line,
        NatsBus(line.url) as bus,
        Client(bus) as client,
    ):
        generation = await Session(client).begin(ASK, model=MODEL)
        first = await some(generation, 5)
        line.cut()
        yield Interrupted(server, system, line, bus, generation, first)


async def some(generation: Generation, count: int) -> list[Token]:
    return [await anext(generation) for _ in range(count)]


async def test_what_was_said_while_the_connection_was_down_is_read_after_it() -> None:
    pace = Pace(steps=6)
    async with interrupted(pace) as it:
        flow = it.generation.flow

        pace.go()
        await it.system.ended()  # all of the rest was said, and to nobody
        await it.line.mend()
        rest = [token async for token in it.generation]

    assert_whole(it.first + rest)
    assert it.generation.num_resumed >= 1
    assert it.generation.flow != flow


async def test_a_broker_that_is_killed_and_comes_back_costs_no_token() -> None:
    pace = Pace(steps=6)
    async with interrupted(pace) as it:
        it.server.kill()
        await reach(lambda: not it.bus.statistics().connected)
        await it.server.restart()
        await reach(lambda: it.system.is_connected)
        pace.go()
        await it.line.mend()
        rest = [token async for token in it.generation]
        await it.system.ended()

    assert_whole(it.first + rest)


async def test_another_process_with_a_connection_of_its_own_reads_on_from_a_position() -> None:
    async with EmbeddedServer() as server, served(server.url):
        async with NatsBus(server.url) as bus, Client(bus) as client:
            generation = await Session(client).begin(ASK, model=MODEL)
            first = await some(generation, 5)
            position = generation.position
            await generation.aclose()
        async with NatsBus(server.url) as bus, Client(bus) as client:
            more = Session(client).generate(ASK, model=MODEL, resume=position)
            rest = [token async for token in more]

    assert position.num_tokens == sum(len(token.ids) for token in first)
    assert_whole(first + rest)
