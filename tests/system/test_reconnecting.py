"""A client that loses a real broker in the middle of an answer reads on from where it was."""

from __future__ import annotations

from itertools import pairwise

from actors.client import Client
from actors.session import Generation, Session, Token
from bus.messages import Sampling
from bus.nats import NatsBus
from bus.public import GenerateRequest
from bus.server import EmbeddedServer
from engine.fake import FakeRunner
from tests.bus.parties import reach
from tests.system.on_nats import CARD, MODEL, Line, Pace, served

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


async def some(generation: Generation, count: int) -> list[Token]:
    return [await anext(generation) for _ in range(count)]


async def test_what_was_said_while_the_connection_was_down_is_read_after_it() -> None:
    pace = Pace(steps=6)
    async with (
        EmbeddedServer() as server,
        served(server.url, pace) as system,
        Line(server.url) as line,
        NatsBus(line.url) as bus,
        Client(bus) as client,
    ):
        generation = await Session(client).begin(ASK, model=MODEL)
        first = await some(generation, 5)
        flow = generation.flow

        line.cut()
        pace.go()
        await system.ended()  # all of the rest was said, and to nobody
        await line.mend()
        rest = [token async for token in generation]

    assert_whole(first + rest)
    assert generation.num_resumed >= 1
    assert generation.flow != flow


async def test_a_broker_that_is_killed_and_comes_back_costs_no_token() -> None:
    pace = Pace(steps=6)
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
        server.kill()
        await reach(lambda: not bus.statistics().connected)
        await server.restart()
        await reach(lambda: system.is_connected)
        pace.go()
        await line.mend()
        rest = [token async for token in generation]
        await system.ended()

    assert_whole(first + rest)


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
