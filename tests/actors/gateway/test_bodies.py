"""OpenAI's requests, read and made ours, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from actors.gateway.bodies import ChatBody, CompletionBody, read
from actors.gateway.errors import HttpError, refused
from actors.gateway.requests import chat_request, completion_requests
from bus.codec import encode_json
from bus.public import ChatMessage, GenerateRequest, JsonObject, JsonSchema, ToolCall

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}


def chat(**given: Any) -> GenerateRequest:
    body = {"model": "m", "messages": [USER], **given}
    return chat_request(read(ChatBody, encode_json(body)))


def completions(**given: Any) -> list[GenerateRequest]:
    return completion_requests(read(CompletionBody, encode_json({"model": "m", **given})))


def test_a_chat_becomes_a_request_with_openais_defaults() -> None:
    assert chat() == GenerateRequest(
        messages=(ChatMessage("user", "Hi"),), max_tokens=1024, temperature=1.0
    )


def test_every_field_that_both_have_is_handed_on() -> None:
    request = chat(
        n=3,
        seed=7,
        stop=["a", "b"],
        temperature=0,
        top_p=0.5,
        max_completion_tokens=9,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"5": 2},
        user="u",
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_object"},
        stream_options=None,
        metadata={"a": "b"},
    )

    assert request == GenerateRequest(
        messages=(ChatMessage("user", "Hi"),),
        n=3,
        seed=7,
        stop=("a", "b"),
        temperature=0.0,
        top_p=0.5,
        max_tokens=9,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        logit_bias={5: 2.0},
        user="u",
        logprobs=2,
        response_format=JsonObject(),
    )


def test_what_came_of_tools_is_told_as_templates_want_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "rain", "arguments": '{"a": 1}'}}
    said = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "content": "yes", "tool_call_id": "c1"},
    ]

    request = chat(messages=said, tools=[TOOL])

    assert request.messages == (
        ChatMessage("system", "Be brief."),
        ChatMessage("assistant", "", (ToolCall("rain", {"a": 1}, "c1"),)),
        ChatMessage("tool", "yes", tool_call_id="c1", name="rain"),
    )
    assert request.tools == (TOOL,)


def test_a_forced_call_holds_the_answer_to_the_tools_schema() -> None:
    request = chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "rain"}})

    assert isinstance(request.response_format, JsonSchema)
    assert request.response_format.schema["anyOf"][0]["properties"] == {
        "name": {"const": "rain"},
        "arguments": {"type": "object"},
    }


def test_several_prompts_become_several_requests() -> None:
    assert [r.prompt for r in completions(prompt=["a", "b"])] == ["a", "b"]
    assert [r.prompt for r in completions(prompt=[[1, 2], [3]])] == [(1, 2), (3,)]
    assert [r.prompt for r in completions(prompt=[1, 2])] == [(1, 2)]
    assert [r.max_tokens for r in completions(prompt="a")] == [16]


def test_a_result_has_the_name_of_the_last_call_of_its_id() -> None:
    said = [
        message
        for name in ("rain", "snow")
        for message in (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": name}}]},
            {"role": "tool", "content": "yes", "tool_call_id": "c"},
        )
    ]

    assert [m.name for m in chat(messages=said).messages or ()] == ["", "rain", "", "snow"]


def test_more_prompts_than_routers_take_are_refused_but_not_so_many_tokens() -> None:
    with pytest.raises(HttpError, match="2049 prompts; at most 2048"):
        completions(prompt=["a"] * 2049)

    assert len(completions(prompt=[1] * 2049)) == 1


@pytest.mark.parametrize(
    ("given", "words", "param"),
    [
        ({"tempraturre": 1}, "unknown field", "tempraturre"),
        ({"temperature": "hot"}, "Expected `float", "temperature"),
        ({"response_format": {"type": "xml"}}, "response_format is", "response_format"),
        ({"tool_choice": "required"}, "there is no tool", "tool_choice"),
        ({"tools": [{"function": "rain"}]}, "function is an object", "tools"),
        ({"tools": [{"function": {"name": []}}], "tool_choice": "required"}, "its name", "tools"),
        ({"top_logprobs": 2}, "needs logprobs", "top_logprobs"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "only text",
            "messages",
        ),
    ],
)
def test_what_we_do_not_do_is_refused_and_named(
    given: dict[str, Any], words: str, param: str
) -> None:
    with pytest.raises(HttpError, match=words) as caught:
        chat(**given)

    assert caught.value.status == 400
    assert caught.value.body["error"]["param"] == param
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_refusals_of_the_fleet_have_the_status_that_clients_retry_on() -> None:
    assert refused("busy", "full").status == 429
    assert refused("unknown_model", "no").body["error"]["code"] == "model_not_found"
    assert refused("too_long", "no").body["error"]["code"] == "context_length_exceeded"
    assert refused("internal", "oh").status == 500
