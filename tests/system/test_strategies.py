"""Every strategy on fleets of one to four engines: the tokens of one engine alone, whatever users,
an operator or an engine's death do meanwhile, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from actors.client import RequestRejected
from bus.fleet import Role
from bus.messages import Sampling
from bus.public import Delta, Done, GenerateRequest, Welcome
from bus.subjects import Subjects
from engine.fake import FakeRunner, fake_card
from orchestrations.registry import names
from tests.system.fleet import Fleet, fake_model, fleet

EXPECT = FakeRunner(fake_card(num_pages=1, page_size=4))
FLEETS: Mapping[int, Mapping[str, Role]] = {
    1: {"x0": "both"},
    2: {"p0": "prefill", "d0": "decode"},
    3: {"p0": "prefill", "d0": "decode", "x0": "both"},
    4: {"p0": "prefill", "p1": "prefill", "d0": "decode", "d1": "decode"},
}
SURVIVING = ("adaptive", "migrate_running", "placed", "resilient")


def prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{length} {seed}").choices(range(1000), k=length))


def invented(chance: random.Random) -> GenerateRequest:
    """A request like no other, but for prefixes and prompts that come again."""
    begin = prompt(chance.choice((8, 40, 100)), 0) if chance.random() < 0.5 else ()
    return GenerateRequest(
        prompt=begin + prompt(chance.randrange(1, 120), chance.randrange(4)),
        max_tokens=chance.randrange(1, 30),
        temperature=chance.choice((0.0, 1.0)),
        seed=chance.randrange(1000),
        group=chance.choice(("", "law")),
    )


def expected(request: GenerateRequest) -> list[int]:
    assert isinstance(request.prompt, tuple)
    sampling = Sampling(temperature=request.temperature, seed=request.seed or 0)
    return EXPECT.continuation(request.prompt, request.max_tokens, sampling)


async def read(system: Fleet, request: GenerateRequest, limit: int | None) -> list[int]:
    """The answer, or its beginning, where the user goes away after ``limit`` tokens."""
    tokens: list[int] = []
    stream = system.client.generate(system.model, request)
    async for message in stream:
        if isinstance(message, Delta):
            tokens += message.tokens
        if isinstance(message, Done):
            assert message.reason == "length", message
        if limit is not None and len(tokens) >= limit:
            break
    await stream.aclose()
    return tokens


@asynccontextmanager
async def operator(system: Fleet, chance: random.Random) -> AsyncIterator[None]:
    """Somebody who wants flows elsewhere all the time."""

    async def direct() -> None:
        while True:
            for flow in list(system.router.flows):
                engine = chance.choice(list(system.members))
                await system.client.bus.publish(Subjects().move(flow), engine.encode())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(direct())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("num_engines", FLEETS)
@pytest.mark.parametrize("orchestration", names())
async def test_whatever_users_and_operators_do_the_tokens_are_those_of_one_engine_alone(
    orchestration: str, num_engines: int
) -> None:
    chance = random.Random(f"{orchestration} {num_engines}")
    requests = [invented(chance) for _ in range(20)]
    limits = [chance.choice((None, None, None, chance.randrange(8))) for _ in requests]

    async with fleet(fake_model(), FLEETS[num_engines], orchestration) as system:
        async with operator(system, chance):
            answers = await asyncio.gather(*map(read, [system] * 20, requests, limits))
        await system.idle()
        assert system.router.statistics().flows == 0

    for request, limit, tokens in zip(requests, limits, answers, strict=True):
        whole = expected(request)
        assert tokens == whole if limit is None else tokens == whole[: len(tokens)]


@asynccontextmanager
async def losing(
    orchestration: str, num_engines: int, victim: str
) -> AsyncIterator[tuple[Fleet, list[GenerateRequest]]]:
    """A fleet, and requests for it; ``victim`` is killed once it computes something. At the end
    nobody who is left holds a page."""
    chance = random.Random(f"{orchestration} {num_engines} {victim}")
    requests = [invented(chance) for _ in range(16)]
    async with fleet(fake_model(step_s=0.002), FLEETS[num_engines], orchestration) as system:

        async def kill() -> None:
            while system.members[victim].engine.statistics().steps < 1:  # noqa: ASYNC110 - engines tell nobody
                await asyncio.sleep(0)
            system.members[victim].kill()
            await found_dead(system, victim)

        async with operator(system, chance), asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            tasks.create_task(kill())
            yield system, requests
        await system.idle(victim)
        assert system.router.statistics().flows == 0
        del system.members[victim]


async def found_dead(system: Fleet, victim: str) -> None:
    """A command to it has no responder: found out at once, where beats would take two seconds."""
    kept = GenerateRequest(
        prompt=prompt(8, 9), max_tokens=0, engine=victim, orchestration="migrate_context"
    )
    try:
        async for _ in system.client.generate(system.model, kept):
            pass
    except RequestRejected:  # its loss was known already
        return


@pytest.mark.parametrize(("num_engines", "victim"), [(2, "d0"), (3, "p0"), (4, "d0")])
@pytest.mark.parametrize("orchestration", SURVIVING)
async def test_the_loss_of_an_engine_is_a_pause_and_no_token_is_missing(
    orchestration: str, num_engines: int, victim: str
) -> None:
    async with losing(orchestration, num_engines, victim) as (system, requests):
        answers = await asyncio.gather(*(read(system, r, None) for r in requests))

    assert answers == [expected(r) for r in requests]


@pytest.mark.parametrize(("num_engines", "victim"), [(2, "d0"), (4, "p0")])
@pytest.mark.parametrize("orchestration", sorted(set(names()) - set(SURVIVING)))
async def test_where_a_loss_ends_an_answer_its_user_is_told_and_nothing_is_left(
    orchestration: str, num_engines: int, victim: str
) -> None:
    async with losing(orchestration, num_engines, victim) as (system, requests):
        answers = await asyncio.gather(*(until_the_end(system, r) for r in requests))

    for request, (tokens, done) in zip(requests, answers, strict=True):
        whole = expected(request)
        if done.reason == "length":
            assert tokens == whole
        else:
            assert (done.reason, tokens) == ("error", whole[: len(tokens)])
            assert "lost" in done.message


async def until_the_end(system: Fleet, request: GenerateRequest) -> tuple[list[int], Done]:
    tokens: list[int] = []
    async for message in system.client.generate(system.model, request):
        if isinstance(message, Delta):
            tokens += message.tokens
        elif isinstance(message, Done):
            return tokens, message
    raise AssertionError("the answer had no end")


async def test_an_engine_that_nobody_commands_is_missed_by_its_beats() -> None:
    async with fleet(fake_model(), FLEETS[2]) as system, asyncio.timeout(20):
        system.members.pop("d0").kill()
        while "d0" in system.router.roster.seen:  # noqa: ASYNC110 - time must pass
            await asyncio.sleep(0.01)
        alive, commands = set(system.router.roster.seen), len(system.spans.spans)
        tokens, _ = await system.ask(GenerateRequest(prompt=prompt(9, 1), max_tokens=3))

    assert (alive, commands) == ({"p0"}, 0)  # it was missed before anybody was commanded
    assert tokens == expected(GenerateRequest(prompt=prompt(9, 1), max_tokens=3))


async def test_a_request_moves_while_it_decodes_and_back_again() -> None:
    request = GenerateRequest(prompt=prompt(100, 1), max_tokens=300)
    tokens: list[int] = []

    async with fleet(fake_model(step_s=0.001), FLEETS[2], "migrate_running") as system:
        flow, decoded = "", set[str]()
        async for message in system.client.generate(system.model, request):
            if isinstance(message, Welcome):
                flow = message.flow
            if isinstance(message, Delta):
                tokens += message.tokens
                to = {100: "p0", 200: "d0"}.get(len(tokens))
                if to:
                    decoded.add(to)
                    await system.client.bus.publish(Subjects().move(flow), to.encode())
        made = {n: m.engine.statistics().decode_tokens for n, m in system.members.items()}
        await system.idle()

    assert tokens == expected(request)
    assert made["p0"] >= 50
    assert made["d0"] >= 150
    assert sum(made.values()) == 300 - 3  # each leg's first token comes out of its prefill


async def test_a_context_is_moved_to_the_engine_that_is_named_and_nothing_is_generated() -> None:
    kept = GenerateRequest(prompt=prompt(64, 3), max_tokens=0, engine="d1")
    request = GenerateRequest(prompt=(*prompt(64, 3), 5), max_tokens=3)

    async with fleet(fake_model(), FLEETS[4], "data_parallel") as system:
        orchestrated = GenerateRequest(
            prompt=kept.prompt, max_tokens=0, engine="d1", orchestration="migrate_context"
        )
        nothing, done = await system.ask(orchestrated)
        await system.idle()
        received = {n: m.engine.statistics().received_tokens for n, m in system.members.items()}
        tokens, _ = await system.ask(request)
        await system.idle()

    assert (nothing, done.reason, done.offset) == ([], "length", 0)
    assert received == {"p0": 0, "p1": 0, "d0": 0, "d1": 64}
    assert tokens == expected(request)
