"""From bytes to a request, or to a refusal that says what was given and what is allowed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some

from actors.intake import BadRequest, Intake, Limits, admit, mailbox, read
from bus.codec import encode, encode_json
from bus.messages import Grammar, Mailbox
from bus.public import ChatMessage, GenerateRequest, JsonSchema, Regex
from bus.tokens import Tokens
from engine.model_errors import ChatTemplateError

LIMITS = Limits(max_context=32, vocab_size=256, orchestrations=("data_parallel", "disaggregated"))
INBOX = Mailbox("inbox")


class Bytes:
    """A tokenizer of one token per byte."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def chat(self, messages: Sequence[ChatMessage], tools: object = ()) -> list[int]:
        if messages[0].role == "system":
            raise ChatTemplateError("no system messages here")
        return self.encode("".join(f"{m.role}:{m.content};" for m in messages))


def take(request: GenerateRequest) -> Intake:
    return admit(request, INBOX, Bytes(), LIMITS, seed=99)


def test_a_text_prompt_is_tokenised() -> None:
    intake = take(GenerateRequest(prompt="hi", max_tokens=3))

    assert intake.request.prompt == Tokens(b"hi")
    assert intake.request.sampling.max_tokens == 3
    assert intake.request.reply == INBOX


def test_a_chat_goes_through_the_template() -> None:
    intake = take(GenerateRequest(messages=(ChatMessage("user", "hi"),)))

    assert intake.request.prompt == Tokens(b"user:hi;")


def test_a_chat_that_the_template_rejects_is_refused_in_its_words() -> None:
    with pytest.raises(BadRequest, match="no system messages here"):
        take(GenerateRequest(messages=(ChatMessage("system", "be brief"),)))


def test_token_ids_are_taken_as_they_are() -> None:
    assert take(GenerateRequest(prompt=(5, 6))).request.prompt == Tokens((5, 6))


def test_a_bias_is_given_by_token_in_json_too() -> None:
    asked = read(b'{"prompt": "x", "logit_bias": {"7": -100, "3": 1.5}, "ignore_eos": true}')

    sampling = take(asked).request.sampling

    assert sampling.logit_bias == ((3, 1.5), (7, -100.0))
    assert sampling.ignore_eos


@pytest.mark.parametrize(
    ("written", "grammar"),
    [
        (
            b'{"type": "json_schema", "schema": {"type": "string"}}',
            Grammar("json_schema", '{"type":"string"}'),
        ),
        (b'{"type": "json_object"}', Grammar("json_schema", '{"type": "object"}')),
        (b'{"type": "regex", "pattern": "a+"}', Grammar("regex", "a+")),
    ],
)
def test_a_format_of_the_answer_becomes_a_grammar(written: bytes, grammar: Grammar) -> None:
    asked = read(b'{"prompt": "x", "response_format": ' + written + b"}")

    assert take(asked).request.sampling.grammar == grammar


def test_a_prompt_may_be_asked_for_without_an_answer() -> None:
    sampling = take(GenerateRequest(prompt="x", max_tokens=0, echo=True)).request.sampling

    assert (sampling.max_tokens, sampling.echo) == (0, True)


@pytest.mark.parametrize(("given", "used"), [(None, 99), (0, 0), (7, 7)])
def test_the_router_picks_a_seed_only_where_the_user_gave_none(
    given: int | None, used: int
) -> None:
    assert take(GenerateRequest(prompt="x", seed=given)).request.sampling.seed == used


def test_the_adapter_goes_with_the_request() -> None:
    assert take(GenerateRequest(prompt="x", adapter="legal")).request.adapter == "legal"


def test_the_priority_goes_with_the_request() -> None:
    assert take(GenerateRequest(prompt="x", priority=-3)).request.priority == -3


def test_the_user_goes_with_the_request() -> None:
    assert take(GenerateRequest(prompt="x", user="ann@example.org")).user == "ann@example.org"


def test_group_and_engine_go_with_the_request() -> None:
    request = take(GenerateRequest(prompt="x", group="law", engine="d0")).request

    assert (request.group, request.engine) == ("law", "d0")


@pytest.mark.parametrize(("stop", "stops"), [("a", ("a",)), (("a", "b"), ("a", "b")), ((), ())])
def test_one_stop_string_may_be_given_without_a_list(
    stop: str | tuple[str, ...], stops: tuple[str, ...]
) -> None:
    assert take(GenerateRequest(prompt="x", stop=stop)).request.sampling.stop == stops


@pytest.mark.parametrize(
    ("request_", "reason", "words"),
    [
        (GenerateRequest(), "bad_request", "'prompt' or 'messages'"),
        (GenerateRequest(prompt="x", messages=()), "bad_request", "not both"),
        (GenerateRequest(prompt=""), "bad_request", "empty"),
        (GenerateRequest(prompt="x" * 32), "too_long", "32 tokens; this model takes at most 31"),
        (GenerateRequest(prompt=(1, -2)), "bad_request", "-2"),
        (GenerateRequest(prompt=(1, 256)), "bad_request", "256"),
        (GenerateRequest(prompt=(1, 2**40)), "bad_request", "token ids"),
        (GenerateRequest(prompt="x", max_tokens=-1), "bad_request", "max_tokens is -1"),
        (GenerateRequest(prompt="x", max_tokens=3, min_tokens=4), "bad_request", "0 to max_tokens"),
        (GenerateRequest(prompt="x", n=0), "bad_request", "n is 0; allowed is 1 to 64"),
        (GenerateRequest(prompt="x", min_tokens=-1), "bad_request", "min_tokens is -1"),
        (GenerateRequest(prompt="x", response_format=Regex("[")), "bad_request", "unclosed"),
        (
            GenerateRequest(prompt="x", response_format=JsonSchema({"type": "foo"})),
            "bad_request",
            "response_format: Invalid type: foo",
        ),
        (
            GenerateRequest(prompt="x", response_format=Regex("a"), min_tokens=2),
            "bad_request",
            "min_tokens or ignore_eos",
        ),
        (
            GenerateRequest(prompt="x", response_format=Regex("a" * 70_000)),
            "bad_request",
            "70000 characters",
        ),
        (GenerateRequest(prompt="x", prompt_logprobs=21), "bad_request", "prompt_logprobs is 21"),
        (GenerateRequest(prompt="x", logit_bias={256: 1.0}), "bad_request", "token 256 is not in"),
        (GenerateRequest(prompt="x", logit_bias={5: 101}), "bad_request", "token 5 is 101"),
        (
            GenerateRequest(prompt="x", stop_tokens=(1,) * 257),
            "bad_request",
            "257 stop tokens; allowed are 256",
        ),
        (GenerateRequest(prompt="x", temperature=-1.0), "bad_request", "temperature is -1"),
        (GenerateRequest(prompt="x", temperature=float("nan")), "bad_request", "temperature"),
        (GenerateRequest(prompt="x", top_p=0.0), "bad_request", "top_p is 0"),
        (GenerateRequest(prompt="x", min_p=1.5), "bad_request", "min_p is 1.5"),
        (GenerateRequest(prompt="x", top_k=-1), "bad_request", "top_k is -1"),
        (GenerateRequest(prompt="x", repetition_penalty=0.0), "bad_request", "repetition"),
        (GenerateRequest(prompt="x", presence_penalty=3.0), "bad_request", "presence_penalty"),
        (GenerateRequest(prompt="x", logprobs=21), "bad_request", "logprobs is 21"),
        (GenerateRequest(prompt="x", timeout_s=0.0), "bad_request", "timeout_s"),
        (GenerateRequest(prompt="x", priority=101), "bad_request", "priority is 101"),
        (GenerateRequest(prompt="x", user="u" * 257), "bad_request", "257 characters"),
        (GenerateRequest(prompt="x", group="a.b"), "bad_request", "group 'a.b'"),
        (GenerateRequest(prompt="x", engine="*"), "bad_request", "engine '*'"),
        (GenerateRequest(prompt="x", stop=""), "bad_request", "stop string is empty"),
        (GenerateRequest(prompt="x", stop=("a",) * 17), "bad_request", "17 stop strings"),
        (GenerateRequest(prompt="x", orchestration="magic"), "unknown_orchestration", "magic"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_in_words(
    request_: GenerateRequest, reason: str, words: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        take(request_)

    assert refused.value.reason == reason
    assert words in refused.value.message


def test_a_refusal_carries_the_clients_tag() -> None:
    with pytest.raises(BadRequest) as refused:
        take(GenerateRequest(prompt="", tag="mine"))

    assert refused.value.tag == "mine"


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"[]", b"hello", b'{"prompt": 5}', b'{"promt": "x"}', b"\xff\xfe", b"\x81"],
)
def test_bytes_that_are_no_request_are_refused(payload: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read(payload)

    assert refused.value.reason == "bad_message"


@given(some.binary(max_size=64))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    with contextlib.suppress(BadRequest):
        assert take(read(payload)).request.prompt


@pytest.mark.parametrize("encoded", [encode, encode_json])
def test_a_request_reads_the_same_from_json_and_messagepack(encoded: type) -> None:
    request = GenerateRequest(prompt="hello", max_tokens=5, stop=("a",), seed=3)

    assert read(encoded(request)) == request


def test_answers_are_read_the_way_the_question_was_written() -> None:
    request = GenerateRequest(prompt="x")

    assert mailbox(encode_json(request), "i").encoding == "json"
    assert mailbox(encode(request), "i").encoding == "msgpack"
    assert mailbox(b"", "i").encoding == "json"
    assert mailbox(b"garbage", "i").encoding == "json"
