"""The gateway before a whole fleet, with the `openai` package as client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import openai
import pytest

from bus.interface import Message
from bus.messages import Sampling
from engine.fake import FakeRunner, fake_card
from tests.system.fleet import fake_model, fleet
from tests.system.gateway import client, gateway

EXPECT = FakeRunner(fake_card(num_pages=1, page_size=4))
PROMPT = "Why is the sky blue?"


def expected(num_tokens: int, prompt: str = PROMPT) -> str:
    """What the fake model answers to a text."""
    tokens = EXPECT.continuation(tuple(prompt.encode()), num_tokens, Sampling())
    return "".join(f"{token} " for token in tokens)


def user(content: str = PROMPT) -> Any:
    return [{"role": "user", "content": content}]


@contextmanager
def told(
    kind: type[openai.APIStatusError], words: str
) -> Iterator[pytest.ExceptionInfo[openai.APIStatusError]]:
    with pytest.raises(kind, match=words) as caught:
        yield caught


async def test_a_chat_is_answered_whole_and_streamed_with_the_same_text() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        whole = await ai.chat.completions.create(
            model="fake", messages=user(), max_tokens=6, temperature=0
        )
        stream = await ai.chat.completions.create(
            model="fake",
            messages=user(),
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]

        choice = whole.choices[0]
        assert (choice.message.content, choice.finish_reason) == (expected(6), "length")
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len(PROMPT), 6)
        deltas = [c.choices[0].delta for c in chunks if c.choices]
        assert deltas[0].role == "assistant"
        assert "".join(d.content or "" for d in deltas) == expected(6)
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == len(PROMPT) + 6
        await system.idle()


async def test_completions_of_several_prompts_come_in_their_order() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        answer = await ai.completions.create(
            model="fake", prompt=["one", "two"], max_tokens=3, temperature=0, n=2
        )
        stream = await ai.completions.create(
            model="fake", prompt=["one", "two"], max_tokens=3, temperature=0, stream=True
        )
        texts = ["", ""]
        async for chunk in stream:
            texts[chunk.choices[0].index] += chunk.choices[0].text

        ones, twos = expected(3, "one"), expected(3, "two")
        assert [c.text for c in answer.choices] == [ones, ones, twos, twos]
        assert texts == [ones, twos]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 12
        await system.idle()


async def test_logprobs_name_each_token_and_the_likeliest_ones() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        chat = await ai.chat.completions.create(
            model="fake",
            messages=user(),
            max_tokens=2,
            temperature=0,
            logprobs=True,
            top_logprobs=2,
        )
        plain = await ai.completions.create(
            model="fake", prompt=PROMPT, max_tokens=2, temperature=0, logprobs=1
        )

        logprobs = chat.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert "".join(e.token for e in logprobs.content) == expected(2)
        assert [len(e.top_logprobs) for e in logprobs.content] == [2, 2]
        assert bytes(logprobs.content[0].bytes or ()).decode() == logprobs.content[0].token
        old = plain.choices[0].logprobs
        assert old is not None
        assert "".join(old.tokens or ()) == expected(2)
        assert old.text_offset == [0, len((old.tokens or [""])[0])]


async def test_what_is_wrong_is_told_as_openais_own_errors() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        create = ai.chat.completions.create
        with told(openai.NotFoundError, "no model"):
            await create(model="other", messages=user())
        with told(openai.NotFoundError, "not allowed"):
            await create(model="*", messages=user())
        with told(openai.BadRequestError, "top_p is 2"):
            await create(model="fake", messages=user(), top_p=2, stream=True)
        with told(openai.BadRequestError, "at most 1023, to leave room"):
            await create(model="fake", messages=user("x" * 2000))
        with told(openai.BadRequestError, "unknown field `banana`"):
            await create(model="fake", messages=user(), extra_body={"banana": 1})
        with told(openai.NotFoundError, "no model 'other'"):
            await ai.models.retrieve("other")
        assert [m.id async for m in ai.models.list()] == ["fake"]
        await system.idle()


@pytest.mark.parametrize(
    ("path", "given", "words"),
    [
        ("completions", {"prompt": "a", "seed": 10**30}, "a number of the request is too large"),
        ("completions", {"prompt": ["a", "b"], "seed": 10**30}, "too large"),
        ("completions", {"prompt": [10**30]}, "too large"),
        ("chat/completions", {"messages": user(), "logit_bias": {10**30: 1}}, "too large"),
        ("chat/completions", {"messages": user(), "tools": [{"function": None}]}, "is an object"),
    ],
)
async def test_nonsense_in_a_body_is_the_askers_fault(
    path: str, given: dict[str, Any], words: str
) -> None:
    async with fleet(fake_model()) as system, gateway(system) as host:
        async with aiohttp.ClientSession() as session, asyncio.timeout(10):
            answer = await session.post(f"{host.url}/v1/{path}", json={"model": "fake", **given})
            error = (await answer.json())["error"]

        assert (answer.status, error["type"]) == (400, "invalid_request_error")
        assert words in error["message"]
        await system.idle()


async def test_a_prompt_that_the_broker_does_not_take_is_too_large_and_not_to_be_tried_again() -> (
    None
):
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        system.broker.max_payload = 1 << 10

        with told(openai.APIStatusError, "at most 1024") as caught:
            await ai.completions.create(model="fake", prompt="x" * 2000)

        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


async def test_a_flow_that_fails_in_the_midst_ends_its_stream_with_an_error() -> None:
    async with (
        fleet(fake_model(step_s=0.02), {"e0": "both"}, "data_parallel") as system,
        gateway(system) as host,
        client(host) as ai,
    ):
        stream = await ai.completions.create(
            model="fake", prompt=PROMPT, max_tokens=200, stream=True
        )
        await anext(stream)
        system.members["e0"].kill()

        with pytest.raises(openai.APIError, match="lost"):
            async for _ in stream:
                pass

        async with aiohttp.ClientSession() as session:
            metrics = await (await session.get(f"{host.url}/metrics")).text()
        ended = [line for line in metrics.splitlines() if "request_duration_seconds_count" in line]
        assert [('error_type="500"' in line, line[-2:]) for line in ended] == [(True, " 1")]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_cancels_its_flow(stream: bool) -> None:
    async with fleet(fake_model(step_s=0.02)) as system, gateway(system) as host:
        body = {"model": "fake", "prompt": PROMPT, "max_tokens": 900, "stream": stream}
        begun = asyncio.Event()

        async def on_command(message: Message) -> None:
            begun.set()

        await system.client.bus.subscribe("ms.engine.*.StartGenerate", on_command)
        async with aiohttp.ClientSession() as session, asyncio.timeout(10):
            asking = asyncio.create_task(session.post(f"{host.url}/v1/completions", json=body))
            await begun.wait()
            assert len(system.router.flows) == 1
            if stream:
                (await asking).close()
            else:
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking

            await system.ended()
        assert dict(system.router.statistics().outcomes) == {"cancelled": 1}


async def test_metrics_tell_of_requests_and_of_engines() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host, client(host) as ai:
        await ai.completions.create(model="fake", prompt=PROMPT, max_tokens=3)

        async with aiohttp.ClientSession() as session:
            text = await (await session.get(f"{host.url}/metrics")).text()

        labels = 'gen_ai_operation_name="text_completion",gen_ai_request_model="fake"'
        assert f"gen_ai_server_request_duration_seconds_count{{{labels}}} 1\n" in text
        assert f"gen_ai_server_time_to_first_token_seconds_count{{{labels}}} 1\n" in text
        assert f"microserve_output_tokens_total{{{labels}}} 3\n" in text
        assert 'microserve_fleet_total_pages{engine="p0",model="fake",role="prefill"} 256' in text


async def test_the_synchronous_client_is_served_as_well() -> None:
    async with fleet(fake_model()) as system, gateway(system) as host:

        def ask() -> tuple[str | None, str]:
            with openai.OpenAI(base_url=f"{host.url}/v1", api_key="x", max_retries=0) as ai:
                whole = ai.chat.completions.create(
                    model="fake", messages=user(), max_tokens=4, temperature=0, seed=1
                )
                chunks = ai.completions.create(
                    model="fake", prompt=PROMPT, max_tokens=4, temperature=0, stream=True
                )
                return whole.choices[0].message.content, "".join(c.choices[0].text for c in chunks)

        assert await asyncio.to_thread(ask) == (expected(4), expected(4))
