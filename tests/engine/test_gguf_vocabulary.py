"""Vocabularies of GGUF files: they split text as the programs that made them do, or are refused."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from engine.gguf_vocabulary import tokenizer_json
from engine.model_errors import BrokenModel, ModelError, UnsupportedModel

from .vocabularies import LETTERS, PIECES, sentencepiece_metadata, sentencepiece_tokenizer


@given(st.text(alphabet=" the foxinrñT." + "日", max_size=30))
def test_merges_made_from_scores_split_text_as_sentencepiece_does(text: str) -> None:
    tokenizer = sentencepiece_tokenizer()

    assert tokenizer.encode(text).tokens == joined_by_score(text)


def joined_by_score(text: str) -> list[str]:
    """SentencePiece's BPE: join the neighbours with the best-scored joint, leftmost first."""
    scores = PIECES | {letter: -20.0 - index for index, letter in enumerate(LETTERS)}
    symbols = list("▁" + text.replace(" ", "▁")) if text else []
    while True:
        joints = [
            (-scores[left + right], at)
            for at, (left, right) in enumerate(pairwise(symbols))
            if left + right in scores
        ]
        if not joints:
            break
        _, at = min(joints)
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    spelled = [[s] if s in scores else [f"<0x{byte:02X}>" for byte in s.encode()] for s in symbols]
    return [token for tokens in spelled for token in tokens]


def test_the_beginning_of_a_text_is_marked_where_the_file_says_so() -> None:
    marked = sentencepiece_tokenizer(add_bos_token=True).encode("the fox")
    plain = sentencepiece_tokenizer(add_space_prefix=False).encode("the fox")

    assert marked.tokens == ["<s>", "▁the", "▁fox"]
    assert plain.tokens == ["t", "he", "▁fox"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "bert"}, UnsupportedModel),
        ({"model": "gpt2", "pre": "tekken"}, UnsupportedModel),
        ({"tokens": []}, BrokenModel),
        ({"scores": [1.0]}, BrokenModel),
        ({"token_type": [1]}, BrokenModel),
        ({"model": "gpt2", "pre": "gpt-2", "merges": ["a b c"]}, BrokenModel),
    ],
)
def test_vocabularies_that_cannot_be_used_are_refused(
    change: dict[str, object], error: type[ModelError]
) -> None:
    changes = {f"tokenizer.ggml.{name}": value for name, value in change.items()}

    with pytest.raises(ModelError) as raised:
        tokenizer_json(Path("v.gguf"), sentencepiece_metadata() | changes)

    assert raised.type is error


@pytest.mark.parametrize(
    ("pre", "text", "words"),
    [
        ("gpt-2", "it's 1234 x", ["it", "'s", "Ġ1234", "Ġx"]),
        ("smollm", "it's 1234 x", ["it", "'s", "Ġ", "1", "2", "3", "4", "Ġx"]),
        ("llama-bpe", "IT'S 12345", ["IT", "'S", "Ġ", "123", "45"]),
        ("qwen2", "IT'S 123", ["IT", "'S", "Ġ", "1", "2", "3"]),
    ],
)
def test_each_pre_tokenizer_splits_words_its_own_way(pre: str, text: str, words: list[str]) -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": ["a", "b"],
    }
    contents = json.dumps(tokenizer_json(Path("v.gguf"), metadata))
    splitter = tokenizers.Tokenizer.from_str(contents).pre_tokenizer

    assert splitter is not None
    assert [word for word, _ in splitter.pre_tokenize_str(text)] == words
