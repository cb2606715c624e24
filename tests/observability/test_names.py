"""Names that OpenTelemetry has conventions for are those of the conventions."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.semconv._incubating.attributes import (
    gen_ai_attributes as gen_ai,
)
from opentelemetry.semconv._incubating.attributes import (
    messaging_attributes as messaging,
)

from observability import names


def test_requests_are_described_in_the_words_of_the_gen_ai_conventions() -> None:
    assert [
        names.OPERATION,
        names.PROVIDER,
        names.REQUEST_MODEL,
        names.REQUEST_MAX_TOKENS,
        names.INPUT_TOKENS,
        names.OUTPUT_TOKENS,
        names.FINISH_REASONS,
        names.TTFT_S,
    ] == [
        gen_ai.GEN_AI_OPERATION_NAME,
        gen_ai.GEN_AI_PROVIDER_NAME,
        gen_ai.GEN_AI_REQUEST_MODEL,
        gen_ai.GEN_AI_REQUEST_MAX_TOKENS,
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS,
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS,
        gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    ]


def test_messages_are_described_in_the_words_of_the_messaging_conventions() -> None:
    described = names.messaging("send", "RemoteSend", "e0", 1)

    assert {name for name in described if name.startswith("messaging.")} == {
        messaging.MESSAGING_SYSTEM,
        messaging.MESSAGING_OPERATION_NAME,
        messaging.MESSAGING_OPERATION_TYPE,
        messaging.MESSAGING_DESTINATION_TEMPLATE,
    }
    types = messaging.MessagingOperationTypeValues
    assert {types.SEND.value, types.PROCESS.value} == {"send", "process"}


def test_a_bare_word_becomes_ours_and_a_full_name_stays() -> None:
    assert names.own("tokens") == "microserve.tokens"
    assert names.own("gen_ai.usage.input_tokens") == "gen_ai.usage.input_tokens"


def test_every_name_of_ours_is_in_the_docs() -> None:
    """In full, or as the last part in a list of one family."""
    told = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")
    ours = [n for n in vars(names).values() if isinstance(n, str) and n.startswith("microserve.")]

    untold = [n for n in ours if f"`{n}`" not in told and f"`.{n.rpartition('.')[2]}`" not in told]
    assert "microserve.flow" in ours
    assert untold == []
