"""The main job with everything but the model, the broker and the network: fast, and all paths."""

from __future__ import annotations

import asyncio
import random

import pytest

from actors.client import Client, NoRouter, RequestRejected
from bus.codec import decode_public, encode_json
from bus.fleet import Role
from bus.interface import Message
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Sampling
from bus.public import Delta, Done, GenerateRequest, Rejected, Reply, Welcome
from engine.fake import FakeRunner, fake_card
from orchestrations.registry import names
from tests.system.fleet import PAIR, Fleet, fake_model, fleet

EXPECT = FakeRunner(fake_card(num_pages=1, page_size=4))
LENGTHS = (1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 100, 257, 700)


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(random.Random(f"{length} {seed}").choices(range(1000), k=length))


@pytest.mark.parametrize("orchestration", names())
async def test_every_orchestration_gives_the_tokens_of_one_engine_alone_cold_and_warm(
    orchestration: str,
) -> None:
    async with fleet(fake_model(), default=orchestration) as system:
        for length in LENGTHS * 2:
            for temperature in (0.0, 1.0):
                sampling = Sampling(temperature=temperature, seed=5)
                request = GenerateRequest(
                    prompt=prompt(length), max_tokens=6, temperature=temperature, seed=5
                )

                tokens, done = await system.ask(request)

                assert tokens == EXPECT.continuation(prompt(length), 6, sampling)
                assert (done.reason, done.offset) == ("length", 6)
        await system.idle()


async def test_the_decoders_cache_saves_the_transfer_of_a_shared_prefix() -> None:
    async with fleet(fake_model()) as system:
        await system.ask(GenerateRequest(prompt=prompt(64), max_tokens=2))
        before = system.members["d0"].engine.statistics().received_tokens

        await system.ask(GenerateRequest(prompt=(*prompt(64), 7, 8, 9), max_tokens=2))

        await system.idle()
        assert system.members["d0"].engine.statistics().received_tokens - before <= 4


async def test_many_mixed_requests_with_cancellations_leave_nothing_behind() -> None:
    chance = random.Random(1)
    async with fleet(fake_model(), {**PAIR, "x0": "both"}) as system:
        answers: list[tuple[tuple[int, ...], list[int]]] = []

        async def one(number: int) -> None:
            length = chance.randrange(1, 200)
            request = GenerateRequest(
                prompt=prompt(length, number % 5),
                max_tokens=chance.randrange(1, 40),
                orchestration=chance.choice(names()),
            )
            limit = chance.choice([None, None, chance.randrange(8)])
            answers.append((prompt(length, number % 5), await _read(system, request, limit)))

        async with asyncio.TaskGroup() as group:
            for number in range(48):
                group.create_task(one(number))
        await system.idle()
        assert system.router.statistics().flows == 0
    for asked, tokens in answers:
        assert tokens == EXPECT.continuation(asked, len(tokens))


async def _read(system: Fleet, request: GenerateRequest, limit: int | None) -> list[int]:
    """The answer, or its beginning: the request is cancelled by reading no further."""
    tokens: list[int] = []
    stream = system.client.generate(system.model, request)
    async for message in stream:
        if isinstance(message, Delta):
            tokens += message.tokens
        if limit is not None and len(tokens) >= limit:
            break
    await stream.aclose()
    return tokens


@pytest.mark.parametrize("victim", ["p0", "d0"])
async def test_when_an_engine_is_killed_its_users_are_told_and_the_others_are_served(
    victim: str,
) -> None:
    four: dict[str, Role] = {**PAIR, "p1": "prefill", "d1": "decode"}
    async with fleet(fake_model(step_s=0.02), four) as system:
        requests = [GenerateRequest(prompt=prompt(300, n), max_tokens=40) for n in range(8)]
        asked = [asyncio.create_task(system.ask(r)) for r in requests]
        async with asyncio.timeout(10):
            while not _at_work(system, victim):  # noqa: ASYNC110 - flows tell nobody
                await asyncio.sleep(0)

        system.members[victim].kill()

        async with asyncio.timeout(10):
            ends = [done for _, done in await asyncio.gather(*asked)]
        assert {done.reason for done in ends} <= {"length", "error"}
        assert any(victim in done.message for done in ends if done.reason == "error")
        after, done = await system.ask(GenerateRequest(prompt=prompt(50), max_tokens=4))
        assert done.reason == "length"
        assert after == EXPECT.continuation(prompt(50), 4)
        await system.idle(victim)
        del system.members[victim]


def _at_work(system: Fleet, engine: str) -> bool:
    """Does a flow wait for something that takes this engine steps?"""
    owed = [key for flow in system.router.flows.values() for key in flow.owed]
    return ("RemoteSend", engine) in owed or ("StartGenerate", engine) in owed


async def test_a_plain_client_reads_json_with_offsets_and_one_terminal_message() -> None:
    async with fleet(fake_model()) as system, MemoryBus(system.broker) as bus:
        replies = await _publish(bus, encode_json(GenerateRequest(prompt="hello", max_tokens=3)))

    welcome, *deltas, done = replies
    assert isinstance(welcome, Welcome)
    assert welcome.prompt_tokens == 5
    assert [d.offset for d in deltas if isinstance(d, Delta)] == [0, 1, 2]
    assert isinstance(done, Done)
    assert (done.reason, done.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize(
    ("subject", "payload", "reason"),
    [
        ("ms.generate.fake", b"{", "bad_message"),
        ("ms.generate.fake", b'{"prompt": 3.5}', "bad_message"),
        ("ms.generate.fake", b'{"prompt": "x", "max_tokens": "many"}', "bad_message"),
        ("ms.generate.fake", b'{"prompt": "x", "max_tokens": -1}', "bad_request"),
        ("ms.generate.fake", b'{"prompt": [1, -1]}', "bad_request"),
        ("ms.generate.fake", b'{"prompt": "x", "orchestration": "magic"}', "unknown_orchestration"),
        ("ms.generate.other", b'{"prompt": "x"}', "unknown_model"),
        ("ms.generate.fake", b'{"prompt": "' + b"x" * 2000 + b'"}', "too_long"),
    ],
)
async def test_bad_requests_are_refused_in_words_and_change_nothing(
    subject: str, payload: bytes, reason: str
) -> None:
    async with fleet(fake_model()) as system, MemoryBus(system.broker) as bus:
        [rejected] = await _publish(bus, payload, subject)

        assert isinstance(rejected, Rejected)
        assert rejected.reason == reason
        assert len(rejected.message) > 10
        tokens, _ = await system.ask(GenerateRequest(prompt=(1, 2), max_tokens=2))
        assert tokens == EXPECT.continuation((1, 2), 2)


async def _publish(
    bus: MemoryBus, payload: bytes, subject: str = "ms.generate.fake"
) -> list[Reply]:
    """Everything up to and with the terminal message."""
    replies: asyncio.Queue[Reply] = asyncio.Queue()

    async def on_reply(message: Message) -> None:
        replies.put_nowait(decode_public(message.payload, Reply))

    inbox = bus.inbox()
    await bus.subscribe(inbox, on_reply)
    await bus.publish(subject, payload, reply=inbox)
    read: list[Reply] = []
    async with asyncio.timeout(10):
        while not read or not isinstance(read[-1], Done | Rejected):
            read.append(await replies.get())
    return read


async def test_without_engines_a_request_is_refused_at_once() -> None:
    async with fleet(fake_model(), {}) as system:
        with pytest.raises(RequestRejected, match="no_engine"):
            await system.ask(GenerateRequest(prompt="x"))


async def test_a_model_that_no_router_serves_is_refused_at_once() -> None:
    async with MemoryBus(MemoryBroker()) as bus, Client(bus) as client:
        with pytest.raises(NoRouter, match="microserve up"):
            async for _ in client.generate("m", GenerateRequest(prompt="x")):
                pass


@pytest.mark.parametrize("reply", ["ms.engine.d0.Release", "$JS.API.STREAM.DELETE.x"])
async def test_no_answer_is_sent_to_where_it_would_be_a_command(reply: str) -> None:
    async with fleet(fake_model()) as system, MemoryBus(system.broker) as bus:
        heard: list[Message] = []

        async def spy(message: Message) -> None:
            heard.append(message)

        await bus.subscribe(reply, spy)
        await bus.publish("ms.generate.fake", b'{"prompt": ""}', reply=reply)
        await system.ask(GenerateRequest(prompt=(1, 2), max_tokens=1))

        assert heard == []


async def test_one_trace_holds_the_whole_flow() -> None:
    async with fleet(fake_model()) as system:
        _, done = await system.ask(GenerateRequest(prompt=prompt(40), max_tokens=2))
        await system.idle()
        spans = [s for s in system.spans.spans if s.context.trace_id == done.flow]

    ids = {s.context.span_id for s in spans}
    assert {s.name for s in spans} >= {
        "microserve.request", "send RemoteSend", "process RemoteSend", "kv.transfer", "prefill",
    }  # fmt: skip
    assert all(s.parent is None or s.parent.span_id in ids for s in spans)
    [root] = [s for s in spans if s.parent is None]
    assert all(root.begin_s <= s.begin_s and s.end_s <= root.end_s + 0.05 for s in spans)
