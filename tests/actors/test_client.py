"""The client against a scripted router: what it sorts, drops, and tells apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from actors.client import MAX_STRANGERS, Client, NoRouter, RequestRejected
from bus.codec import decode, decode_public, encode
from bus.interface import Message
from bus.memory import MemoryBroker, MemoryBus
from bus.public import (
    Batch,
    ChoiceDone,
    Delta,
    Done,
    Echo,
    GenerateRequest,
    Rejected,
    Reply,
    Welcome,
)

REQUEST = GenerateRequest(prompt="x")
Script = Callable[[GenerateRequest], list[tuple[Reply, ...]]]


@asynccontextmanager
async def against(script: Script) -> AsyncIterator[tuple[Client, asyncio.Queue[str]]]:
    """A client, and the flows that it cancels."""
    broker, cancelled = MemoryBroker(), asyncio.Queue[str]()
    async with MemoryBus(broker) as theirs, MemoryBus(broker) as ours, Client(ours) as client:

        async def serve(message: Message) -> None:
            for batch in script(decode_public(message.payload, GenerateRequest)):
                await theirs.publish(message.reply, encode(batch))

        async def cancel(message: Message) -> None:
            cancelled.put_nowait(message.subject.split(".")[2])

        await theirs.subscribe("ms.generate.m", serve)
        await theirs.subscribe("ms.flow.*.cancel", cancel)
        yield client, cancelled


async def read(client: Client) -> list[Reply]:
    return [message async for message in client.generate("m", REQUEST)]


def delta(offset: int, *tokens: int, flow: str = "f") -> Delta:
    return Delta(flow, offset, tokens)


def tokens(replies: list[Reply]) -> list[int]:
    return [t for r in replies if isinstance(r, Delta) for t in r.tokens]


async def test_an_answer_is_a_welcome_deltas_and_one_end() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [
            (Welcome("f", 1, request.tag),),
            (delta(0, 5),),
            (delta(1, 6), Done("f", 2, "stop")),
        ]

    async with against(script) as (client, cancelled):
        replies = await read(client)

    assert [type(r) for r in replies] == [Welcome, Delta, Delta, Done]
    assert tokens(replies) == [5, 6]
    assert cancelled.empty()


async def test_tokens_that_come_again_are_dropped() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        again = (delta(0, 5), delta(1, 6), delta(0, 5, 6))
        return [(Welcome("f", 1, request.tag), *again, Done("f", 2, "stop"))]

    async with against(script) as (client, _):
        assert tokens(await read(client)) == [5, 6]


async def test_tokens_of_a_batch_that_were_half_seen_are_not_repeated() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [
            (Welcome("f", 1, request.tag), delta(0, 5, 6), delta(1, 6, 7), Done("f", 3, "stop"))
        ]

    async with against(script) as (client, _):
        assert tokens(await read(client)) == [5, 6, 7]


async def test_tokens_that_overtake_the_welcome_are_kept() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [(delta(0, 5),), (Welcome("f", 1, request.tag),), (Done("f", 1, "stop"),)]

    async with against(script) as (client, _):
        replies = await read(client)

    assert [type(r) for r in replies] == [Welcome, Delta, Done]


async def test_they_are_kept_also_after_many_flows_that_nobody_follows_any_more() -> None:
    gone = tuple(Done(f"gone-{number}", 0, "cancelled") for number in range(MAX_STRANGERS))

    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [gone, (delta(0, 5),), (Welcome("f", 1, request.tag),), (Done("f", 1, "stop"),)]

    async with against(script) as (client, _):
        assert tokens(await read(client)) == [5]


async def test_only_the_first_last_word_counts() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        ends = (Done("f", 0, "stop"), Done("f", 0, "cancelled"))
        return [(Welcome("f", 1, request.tag), *ends)]

    async with against(script) as (client, _):
        assert (await read(client))[-1] == Done("f", 0, "stop")


async def test_many_requests_share_a_mailbox_and_are_told_apart() -> None:
    numbers = iter(range(100))

    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        number = next(numbers)
        flow = f"f{number}"
        return [
            (Welcome(flow, 1, request.tag),),
            (delta(0, number, flow=flow), delta(0, 99, flow="of somebody else")),
            (Done(flow, 1, "stop"),),
        ]

    async with against(script) as (client, _):
        answers = await asyncio.gather(*(read(client) for _ in range(10)))

    assert sorted(t for a in answers for t in tokens(a)) == list(range(10))


async def test_a_refusal_is_raised_with_the_routers_words() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [(Rejected("too_long", "9 tokens are too many", request.tag),)]

    async with against(script) as (client, _):
        with pytest.raises(RequestRejected, match="9 tokens are too many"):
            await read(client)


async def test_reading_no_further_cancels_the_flow() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [(Welcome("f", 1, request.tag), delta(0, 5))]

    async with against(script) as (client, cancelled):
        stream = client.generate("m", REQUEST)
        assert isinstance(await anext(stream), Welcome)
        await stream.aclose()
        async with asyncio.timeout(5):
            assert await cancelled.get() == "f"


async def test_a_cancelled_task_cancels_its_flow() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [(Welcome("f", 1, request.tag), delta(0, 5))]

    async with against(script) as (client, cancelled):
        seen = asyncio.Event()

        async def reading() -> None:
            async for message in client.generate("m", REQUEST):
                if isinstance(message, Delta):
                    seen.set()

        task = asyncio.create_task(reading())
        await seen.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await cancelled.get() == "f"


async def test_who_leaves_before_the_welcome_cancels_the_flow_as_well() -> None:
    asked = asyncio.Queue[GenerateRequest]()

    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        asked.put_nowait(request)
        return []

    async with against(script) as (client, cancelled):
        task = asyncio.create_task(read(client))
        request = await asked.get()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        await client.bus.publish(client.mailbox, encode((Welcome("f", 1, request.tag),)))
        async with asyncio.timeout(5):
            assert await cancelled.get() == "f"


async def test_a_model_that_nobody_listens_to_is_told_at_once() -> None:
    async with against(lambda _: []) as (client, _):
        with pytest.raises(NoRouter, match="'other'"):
            async for _ in client.generate("other", REQUEST):
                pass


async def test_garbage_in_the_mailbox_is_survived() -> None:
    mailbox: list[str] = []

    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        return [(Welcome("f", 1, request.tag), Done("f", 0, "stop"))]

    async with against(script) as (client, _):
        mailbox.append(client.mailbox)
        await client.bus.publish(client.mailbox, b"\xc1 garbage")
        assert len(await read(client)) == 2


def test_a_batch_is_an_array_of_replies() -> None:
    batch = (Welcome("f", 1), delta(0, 5), Done("f", 1, "stop"))

    assert decode(encode(batch), Batch) == batch


async def test_several_answers_are_counted_each_by_itself() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        first = (Delta("f", 0, (5,)), Delta("f", 0, (7,), choice=1), Delta("f", 1, (8,), choice=1))
        ends = (ChoiceDone("f", 1, 2, "stop"), ChoiceDone("f", 0, 1, "length"))
        return [(Welcome("f", 1, request.tag), *first, *first, *ends, Done("f", 3, "length"))]

    async with against(script) as (client, _):
        replies = await read(client)

    heard = [(r.choice, r.tokens) for r in replies if isinstance(r, Delta)]
    assert heard == [(0, (5,)), (1, (7,)), (1, (8,))]
    assert [type(r) for r in replies[-3:]] == [ChoiceDone, ChoiceDone, Done]


async def test_a_request_that_was_begun_again_says_neither_prompt_nor_ends_twice() -> None:
    def script(request: GenerateRequest) -> list[tuple[Reply, ...]]:
        once = (Echo("f", (1, 2)), ChoiceDone("f", 0, 0, "stop"), ChoiceDone("f", 1, 0, "stop"))
        return [(Welcome("f", 1, request.tag), *once, *once, Done("f", 0, "stop"))]

    async with against(script) as (client, _):
        replies = await read(client)

    assert [type(r) for r in replies] == [Welcome, Echo, ChoiceDone, ChoiceDone, Done]
