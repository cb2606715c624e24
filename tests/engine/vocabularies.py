"""A small SentencePiece vocabulary with byte fallback, as GGUF metadata and as a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers

from engine.gguf_vocabulary import tokenizer_json

PIECES = {
    "▁": -1.0,
    "▁t": -2.0,
    "he": -3.0,
    "▁the": -4.0,
    "in": -5.0,
    "▁f": -6.0,
    "ox": -7.0,
    "▁fox": -8.0,
    "er": -9.0,
    "th": -10.0,
    "▁th": -11.0,
    "ere": -12.0,
    "hex": -13.0,
    "ñ": -14.0,
}
LETTERS = "abcdefghijklmnopqrstuvwxyzT.,0123456789"


def sentencepiece_metadata() -> dict[str, Any]:
    """As llama.cpp writes it: unknown, control and byte tokens first, then pieces with scores."""
    named = ["<unk>", "<s>", "</s>"]
    spelled = [f"<0x{byte:02X}>" for byte in range(256)]
    scores = PIECES | {letter: -20.0 - index for index, letter in enumerate(LETTERS)}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*named, *spelled, *scores],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * len(scores),
        "tokenizer.ggml.scores": [0.0] * (3 + 256) + list(scores.values()),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }


def sentencepiece_tokenizer(**changes: object) -> tokenizers.Tokenizer:
    metadata = sentencepiece_metadata() | {
        f"tokenizer.ggml.{name}": value for name, value in changes.items()
    }
    contents = tokenizer_json(Path("vocabulary.gguf"), metadata)
    return tokenizers.Tokenizer.from_str(json.dumps(contents))
