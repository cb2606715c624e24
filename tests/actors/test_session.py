"""The client for people: tokens without gap or repeat, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import microserve
from actors.client import Client
from actors.session import PAUSE_S, Position, Session
from bus.codec import decode_public, encode
from bus.interface import Message
from bus.memory import MemoryBroker, MemoryBus
from bus.messages import Beat, Usage
from bus.public import ChatMessage, Delta, Done, GenerateRequest, Rejected, Reply, Welcome

WORDS = ("Once ", "upon ", "a ", "ti", "me.")
ALL = [Delta("f", i, (100 + i,), word) for i, word in enumerate(WORDS)]
END = Done("f", len(WORDS), "stop", Usage(3, 5))


class Router:
    """Answers what it is scripted to, one list of messages for each request."""

    def __init__(self, *answers: list[Reply]) -> None:
        self.answers = list(answers)
        self.asked: list[GenerateRequest] = []
        self.cancelled: list[str] = []


@asynccontextmanager
async def session(router: Router) -> AsyncIterator[Session]:
    async with connected(router) as (ms, _, _):
        yield ms


@asynccontextmanager
async def connected(router: Router) -> AsyncIterator[tuple[Session, MemoryBroker, MemoryBus]]:
    broker = MemoryBroker()
    async with MemoryBus(broker) as theirs, MemoryBus(broker) as ours, Client(ours) as client:

        async def serve(message: Message) -> None:
            request = decode_public(message.payload, GenerateRequest)
            router.asked.append(request)
            for reply in router.answers.pop(0):
                told = Welcome("f", 3, request.tag) if isinstance(reply, Welcome) else reply
                if isinstance(told, Rejected):
                    told = Rejected(told.reason, told.message, request.tag)
                await theirs.publish(message.reply, encode((told,)))

        async def cancel(message: Message) -> None:
            router.cancelled.append(message.subject)

        await theirs.subscribe("ms.generate.m", serve)
        await theirs.subscribe("ms.flow.*.cancel", cancel)
        yield Session(client), broker, ours


def whole(*messages: Reply) -> list[Reply]:
    return [Welcome("f", 3), *messages]


async def test_tokens_come_as_text_that_can_be_printed() -> None:
    router = Router(whole(*ALL, END))

    async with session(router) as ms:
        said = [str(t) async for t in ms.generate("x", model="m", max_tokens=5, temperature=1.0)]

    assert said == list(WORDS)
    assert (router.asked[0].max_tokens, router.asked[0].temperature) == (5, 1.0)
    assert router.asked[0].seed is not None


async def test_a_chat_and_a_whole_request_are_taken_as_well() -> None:
    chat = [ChatMessage("user", "Hi")]
    router = Router(whole(*ALL, END), whole(*ALL, END))

    async with session(router) as ms:
        first = await (await ms.begin(chat, model="m")).answer()
        given = GenerateRequest(prompt=(1, 2), seed=9)
        second = await (await ms.begin(given, model="m", stop="x")).answer()

    assert first.text == "Once upon a time."
    assert (second.ids, second.reason, second.usage) == (
        (100, 101, 102, 103, 104),
        "stop",
        END.usage,
    )
    assert router.asked[0].messages == tuple(chat)
    assert (router.asked[1].seed, router.asked[1].stop) == (9, "x")


async def test_where_a_part_was_lost_it_is_asked_for_again_and_nobody_sees_it() -> None:
    lost = whole(ALL[0], ALL[1], ALL[3])
    router = Router(lost, whole(*ALL, END))

    async with session(router) as ms:
        generation = await ms.begin("x", model="m")
        answer = await generation.answer()

    assert answer.text == "Once upon a time."
    assert answer.ids == (100, 101, 102, 103, 104)
    assert generation.num_resumed == 1
    assert router.asked[0].seed == router.asked[1].seed
    assert router.cancelled == ["ms.flow.f.cancel"]


@pytest.mark.parametrize("cut", [whole(ALL[1]), whole(ALL[0], END)], ids=["middle", "end"])
async def test_where_a_part_is_lost_each_time_nobody_is_asked_without_a_pause(
    cut: list[Reply],
) -> None:
    router = Router(*[cut] * 1000)

    async with session(router) as ms:
        generation = await ms.begin("x", model="m")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5 * PAUSE_S):
                await generation.answer()

    assert 1 <= len(router.asked) <= 3


async def test_what_comes_again_in_other_pieces_is_cut_where_the_reader_is() -> None:
    merged = Delta("f", 1, (101, 102), "upon a ")
    router = Router(whole(ALL[0], ALL[1], ALL[4]), whole(ALL[0], merged, ALL[3], ALL[4], END))

    async with session(router) as ms:
        tokens = [t async for t in ms.generate("x", model="m")]

    assert [t.text for t in tokens] == ["Once ", "upon ", "a ", "ti", "me."]
    assert [t.offset for t in tokens] == [0, 1, 2, 3, 4]


async def test_a_lost_connection_is_a_pause_even_where_nobody_speaks_any_more() -> None:
    router = Router(whole(ALL[0], ALL[1]), whole(*ALL, END))

    async with connected(router) as (ms, broker, ours):
        said = []
        async for token in ms.generate("x", model="m"):
            said.append(token.text)
            if len(said) == 2:  # the rest was said to nobody
                broker.disconnect(ours)
                broker.reconnect(ours)

    assert said == list(WORDS)


async def test_another_process_goes_on_where_this_one_stopped() -> None:
    router = Router(whole(*ALL, END), whole(*ALL, END))

    async with session(router) as ms:
        generation = await ms.begin("x", model="m")
        first = [(await anext(generation)).text for _ in range(3)]
        at = generation.position
        await generation.aclose()
        rest = [t async for t in ms.generate("x", model="m", resume=at)]

    assert "".join(first) + "".join(t.text for t in rest) == "Once upon a time."
    assert [t.offset for t in rest] == [3, 4]
    assert at == Position(router.asked[0].seed or 0, 3, len("Once upon a "))


async def test_a_batch_is_answered_in_order_with_each_failure_in_its_place() -> None:
    busy = Rejected("busy", "full")
    router = Router(whole(*ALL, END), [busy], whole(*ALL, END))

    async with session(router) as ms:
        found = await ms.batch(["a", "b", "c"], model="m", in_flight=1)

    assert [getattr(answer, "text", "") for answer in found] == [
        "Once upon a time.",
        "",
        "Once upon a time.",
    ]
    assert isinstance(found[1], microserve.Busy)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("busy", microserve.Busy),
        ("too_long", microserve.TooLong),
        ("unknown_model", microserve.BadRequest),
        ("no_engine", microserve.NoEngine),
        ("internal", microserve.RequestRejected),
    ],
)
async def test_a_refusal_has_a_type(reason: str, kind: type[Exception]) -> None:
    router = Router([Rejected(reason, "why")])  # type: ignore[arg-type]

    async with session(router) as ms:
        with pytest.raises(kind, match="why") as caught:
            await (await ms.begin("x", model="m")).answer()

    assert type(caught.value) is kind


async def test_an_answer_that_fails_says_how_far_it_came() -> None:
    failed = Done("f", 2, "error", message="e0 was lost")
    router = Router(whole(ALL[0], ALL[1], failed))

    async with session(router) as ms:
        with pytest.raises(microserve.GenerationFailed, match="after 2 tokens: e0 was lost"):
            async for _ in ms.generate("x", model="m"):
                pass


async def test_nobody_to_ask_is_told_at_once() -> None:
    async with session(Router()) as ms:
        with pytest.raises(microserve.NoRouter):
            await asyncio.wait_for((await ms.begin("x", model="nobody")).answer(), 5)


async def test_several_answers_in_one_are_refused_in_words() -> None:
    async with session(Router()) as ms:
        with pytest.raises(ValueError, match="n is 2"):
            await ms.begin("x", model="m", n=2)


async def test_where_no_engine_is_up_the_error_is_of_the_same_family() -> None:
    async with session(Router()) as ms:
        with pytest.raises(microserve.GenerateError, match="no engine is up") as caught:
            await ms.begin("x")

    assert isinstance(caught.value, microserve.UnclearModel)
    assert caught.value.models == ()


async def test_the_only_model_that_beats_is_asked_where_none_is_named() -> None:
    router = Router(whole(*ALL, END))

    async with connected(router) as (ms, broker, _), MemoryBus(broker) as engine:
        begun = asyncio.create_task(ms.begin("x"))
        beat = encode(Beat("e0", 1, "m", "both", 0, 1, 1, 16, 99, "c"))
        while not begun.done():
            await engine.publish("ms.beat.e0", beat)
            await asyncio.sleep(0)
        answer = await (await begun).answer()

    assert answer.text == "Once upon a time."


async def test_a_system_that_is_still_coming_up_again_is_waited_for_too() -> None:
    not_yet: list[Reply] = [Rejected("no_engine", "the fleet has no engines")]
    router = Router(whole(ALL[0], ALL[2]), not_yet, whole(*ALL, END))

    async with session(router) as ms:
        answer = await (await ms.begin("x", model="m")).answer()

    assert answer.text == "Once upon a time."
    assert len(router.asked) == 3
