"""Text that grows token by token equals the text decoded at once, and never breaks a character."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from engine.detokenizer import BYTE_OF_CHARACTER, Spelling, spelling
from engine.model_errors import UnsupportedModel

from .checkpoints import tiny_tokenizer
from .vocabularies import sentencepiece_tokenizer

BYTE_LEVEL = tiny_tokenizer()
BYTE_LEVEL.add_tokens(["日本語", "ma ñana"])
BYTE_FALLBACK = sentencepiece_tokenizer()
BOTH = {"byte level": BYTE_LEVEL, "byte fallback": BYTE_FALLBACK}

TEXTS = [
    "The quick brown fox, naïve café.",
    "👩‍👩‍👧‍👦 family 🇨🇭 flags 🌊🌊🌊",
    "日本語 und 漢字, 안녕하세요",
    "  leading and  double spaces\n\n\ttabs ",
    "the 日本語 of ma ñana",
]


def spelling_of(tokenizer: tokenizers.Tokenizer) -> Spelling:
    added = tokenizer.get_added_tokens_decoder().items()
    special = {token for token, entry in added if entry.special}
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    return spelling(
        state["decoder"],
        lambda token: None if token in special else tokenizer.id_to_token(token),
    )


def pieces(tokenizer: tokenizers.Tokenizer, tokens: Sequence[int]) -> list[str]:
    detokenizer = spelling_of(tokenizer).detokenizer()
    return [*map(detokenizer.push, tokens), detokenizer.flush()]


@given(st.data(), st.sampled_from(sorted(BOTH)))
def test_random_tokens_give_the_text_of_decoding_them_at_once(
    data: st.DataObject, kind: str
) -> None:
    tokenizer = BOTH[kind]
    any_token = st.integers(0, tokenizer.get_vocab_size() + 3)
    tokens = data.draw(st.lists(any_token, max_size=40))

    assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=True)


@given(st.text(max_size=60), st.sampled_from(sorted(BOTH)))
def test_real_text_comes_back_whole(text: str, kind: str) -> None:
    tokenizer = BOTH[kind]
    tokens = tokenizer.encode(text).ids

    assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens)


@given(st.lists(st.integers(0, 255), max_size=12))
def test_invalid_bytes_are_replaced_as_the_library_replaces_them(values: list[int]) -> None:
    vocabulary = BYTE_LEVEL.get_vocab()
    alphabet = [vocabulary[spelled] for spelled in _spelled_bytes()]
    tokens = [alphabet[value] for value in values]

    assert "".join(pieces(BYTE_LEVEL, tokens)) == bytes(values).decode(errors="replace")
    assert bytes(values).decode(errors="replace") == BYTE_LEVEL.decode(tokens)


def _spelled_bytes() -> list[str]:
    characters = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    return [characters[byte] for byte in range(256)]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_holds_half_a_character(text: str, kind: str) -> None:
    tokenizer = BOTH[kind]
    shown = pieces(tokenizer, tokenizer.encode(text).ids)

    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in shown)
    assert "".join(shown).strip() == text.strip()


def test_a_character_appears_with_its_last_byte() -> None:
    tokens = BYTE_LEVEL.encode("é風").ids

    shown = pieces(BYTE_LEVEL, tokens)

    assert [piece for piece in shown if piece] == ["é", "風"]
    assert shown[-1] == ""


def test_a_cut_character_is_replaced_at_the_end_and_the_next_answer_starts_clean() -> None:
    first, *_ = BYTE_LEVEL.encode("🦊").ids
    detokenizer = spelling_of(BYTE_LEVEL).detokenizer()

    assert detokenizer.push(first) == ""
    assert detokenizer.flush() == "\N{REPLACEMENT CHARACTER}"
    assert detokenizer.flush() == ""


def test_answers_do_not_share_their_state() -> None:
    shared = spelling_of(BYTE_LEVEL)
    one, two = shared.detokenizer(), shared.detokenizer()
    begin, *end = BYTE_LEVEL.encode("é").ids

    assert one.push(begin) == ""

    assert two.push(BYTE_LEVEL.get_vocab()["a"]) == "a"
    assert "".join(map(one.push, end)) == "é"


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"Regex": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
    ],
)
def test_other_decoders_are_refused_by_name(decoder: dict[str, Any] | None) -> None:
    with pytest.raises(UnsupportedModel, match="supported: ByteLevel"):
        spelling(decoder, str)
