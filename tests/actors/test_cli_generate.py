"""`microserve generate`: from options to a request, and from messages to what is printed."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from actors.asking import Page
from actors.cli_generate import generate, request_of
from bus.public import (
    ChatMessage,
    ChoiceDone,
    Delta,
    Done,
    Echo,
    GenerateRequest,
    JsonObject,
    JsonSchema,
    Regex,
    Welcome,
)

CONNECTION = ("url", "model_name", "as_json")
ELSEWHERE = {"messages", "tools", "tag", "response_format"}
"""Fields that are made of other options, that only programs want, or that the client sets."""


def asked(*options: str) -> GenerateRequest:
    given = dict(generate.make_context("generate", ["Hello", *options]).params)
    for name in CONNECTION:
        given.pop(name)
    return request_of(**given)


def test_without_options_it_is_a_chat_with_the_protocols_defaults() -> None:
    assert asked() == GenerateRequest(messages=(ChatMessage("user", "Hello"),))


def test_every_field_of_a_request_has_an_option() -> None:
    options = {parameter.name for parameter in generate.params}

    assert set(GenerateRequest.__struct_fields__) - ELSEWHERE <= options


def test_every_option_has_its_default_or_a_help_text() -> None:
    shown = generate.get_help(generate.make_context("generate", ["Hello"]))

    for parameter in generate.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in shown
            assert parameter.help or parameter.show_default, parameter.name


def test_options_become_the_fields_of_the_request() -> None:
    request = asked(
        *("--raw", "--max-tokens", "9", "--min-tokens", "2", "--n", "3", "--top-k", "40"),
        *("--temperature", "0.7", "--top-p", "0.9", "--min-p", "0.1", "--seed", "7"),
        *("--repetition-penalty", "1.1", "--presence-penalty", "0.5"),
        *("--frequency-penalty", "-0.5", "--logit-bias", "5=-100", "--logit-bias", "6=1.5"),
        *("--stop", "a", "--stop", "b", "--stop-token", "3", "--ignore-eos", "--echo"),
        *("--logprobs", "2", "--prompt-logprobs", "0", "--adapter", "legal"),
        *("--orchestration", "balanced", "--engine", "e1", "--group", "law", "--user", "ann"),
        *("--priority", "-5", "--timeout-s", "1.5"),
    )

    assert request == GenerateRequest(
        prompt="Hello",
        max_tokens=9,
        min_tokens=2,
        n=3,
        temperature=0.7,
        top_k=40,
        top_p=0.9,
        min_p=0.1,
        seed=7,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={5: -100.0, 6: 1.5},
        stop=("a", "b"),
        stop_tokens=(3,),
        ignore_eos=True,
        echo=True,
        logprobs=2,
        prompt_logprobs=0,
        adapter="legal",
        orchestration="balanced",
        engine="e1",
        group="law",
        user="ann",
        priority=-5,
        timeout_s=1.5,
    )


def test_a_chat_begins_with_the_system_message() -> None:
    request = asked("--system", "Be short.")

    assert request.messages == (ChatMessage("system", "Be short."), ChatMessage("user", "Hello"))


def test_a_schema_is_given_as_text_or_in_a_file(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["name"]}
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object", "required": ["name"]}')

    assert asked("--json-schema", path.read_text()).response_format == JsonSchema(schema)
    assert asked("--json-schema", f"@{path}").response_format == JsonSchema(schema)


def test_the_other_forms_of_an_answer() -> None:
    assert asked("--json-object").response_format == JsonObject()
    assert asked("--regex", "a+").response_format == Regex("a+")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--json-object", "--regex", "a"], "one of --json-schema, --json-object and --regex"),
        (["--raw", "--system", "x"], "only a chat has a system message"),
        (["--logit-bias", "5"], "'5' is not TOKEN=BIAS, such as 318=-100"),
        (["--json-schema", "[1]"], "'[1]' is no JSON object"),
        (["--json-schema", "@/nowhere.json"], "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_asked_is_told(options: list[str], why: str) -> None:
    with pytest.raises(click.UsageError) as told:
        asked(*options)

    assert why in told.value.format_message()


def test_one_answer_is_shown_as_it_comes() -> None:
    page = Page(1)
    messages = (
        Welcome("f", 3),
        Echo("f", (1, 2, 3), "Hello"),
        Delta("f", 0, (4,), " you"),
        Delta("f", 1, (5,), " there"),
        Done("f", 2, "stop"),
    )

    assert [page.shown(m) for m in messages] == ["", "Hello", " you", " there", "\n"]


def test_each_of_several_answers_is_shown_when_it_is_complete() -> None:
    page = Page(2)
    messages = (
        Delta("f", 0, (4,), "one", choice=0),
        Delta("f", 0, (5,), "two", choice=1),
        Delta("f", 1, (6,), " more", choice=1),
        ChoiceDone("f", 1, 2, "length"),
        ChoiceDone("f", 0, 1, "stop"),
        Done("f", 3, "length"),
    )

    shown = [page.shown(m) for m in messages]

    assert shown == [
        *("", "", ""),
        "[answer 2 of 2; length]\ntwo more\n",
        "[answer 1 of 2; stop]\none\n",
        "",
    ]
