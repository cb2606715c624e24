"""What a request may ask for besides tokens, from the client to the engines and back."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from actors.client import RequestRejected
from bus.messages import Sampling
from bus.public import ChatMessage, ChoiceDone, Delta, Done, Echo, GenerateRequest, JsonSchema
from engine.fake import FakeRunner, fake_card
from orchestrations.registry import names
from tests.system.fleet import Fleet, fake_model, fleet
from tests.system.real import real_fleet

EXPECT = FakeRunner(fake_card(num_pages=1, page_size=4))
PROMPT = tuple(random.Random(3).choices(range(1000), k=70))


@pytest.mark.parametrize("orchestration", names())
async def test_several_answers_come_each_as_if_alone_in_every_orchestration(
    orchestration: str,
) -> None:
    request = GenerateRequest(prompt=PROMPT, max_tokens=5, temperature=1.0, seed=9, n=3)
    async with fleet(fake_model(), default=orchestration) as system:
        answers, ends, done = await _choices(system, request)
        await system.idle()

    sampling = Sampling(temperature=1.0, seed=9)
    assert answers == {
        choice: EXPECT.continuation(PROMPT, 5, sampling, choice) for choice in range(3)
    }
    assert sorted((end.choice, end.offset, end.reason) for end in ends) == [
        (choice, 5, "length") for choice in range(3)
    ]
    assert (done.offset, done.usage.completion_tokens) == (15, 15)


async def _choices(
    system: Fleet, request: GenerateRequest
) -> tuple[dict[int, list[int]], list[ChoiceDone], Done]:
    answers: dict[int, list[int]] = {}
    ends: list[ChoiceDone] = []
    async for message in system.client.generate(system.model, request):
        if isinstance(message, Delta):
            answers.setdefault(message.choice, []).extend(message.tokens)
        elif isinstance(message, ChoiceDone):
            ends.append(message)
        elif isinstance(message, Done):
            return answers, ends, message
    raise AssertionError("the answer had no end")


@pytest.mark.parametrize("orchestration", names())
async def test_a_prompt_is_scored_whole_in_every_orchestration(orchestration: str) -> None:
    request = GenerateRequest(prompt=PROMPT, max_tokens=2, prompt_logprobs=1, echo=True)
    async with fleet(fake_model(), default=orchestration) as system:
        heard = [m async for m in system.client.generate(system.model, request)]
        await system.idle()

    assert isinstance(heard[1], Echo)
    assert heard[1].tokens == PROMPT
    assert [one and one.token for one in heard[1].logprobs] == [None, *PROMPT[1:]]


async def test_an_adapter_that_no_engine_has_is_refused_in_words() -> None:
    request = GenerateRequest(prompt=PROMPT, max_tokens=2, adapter="legal")
    async with fleet(fake_model()) as system:
        with pytest.raises(RequestRejected) as told:
            await system.ask(request)
        await system.idle()

    assert told.value.rejected.reason == "bad_request"
    assert told.value.rejected.message == "no engine has the adapter 'legal'; there are: none"


async def test_the_default_model_answers_in_the_form_it_is_given(tmp_path: Path) -> None:
    """Through the broker, processes, and the compiler in each engine."""
    form = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "millions": {"enum": [1, 2, 3]}},
        "required": ["city", "millions"],
        "additionalProperties": False,
    }
    question = ChatMessage("user", "What is the capital of France, and how many live there?")
    request = GenerateRequest(
        messages=(question,),
        max_tokens=200,
        response_format=JsonSchema(form),
        n=2,
        temperature=0.7,
        seed=1,
    )
    async with real_fleet(None, (("p0", "prefill"), ("d0", "decode")), tmp_path) as system:
        texts = {0: "", 1: ""}
        async for message in system.client.generate(system.model, request):
            if isinstance(message, Delta):
                texts[message.choice] += message.text
        await system.no_page_held()

    for text in texts.values():
        answer = json.loads(text)
        assert answer["city"] in ("Paris", "Rome")
        assert answer["millions"] in (1, 2, 3)
