"""Make the Hugging Face tokenizer files out of a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from msgspec import Struct

from .model_errors import BrokenModel, UnsupportedModel

Json: TypeAlias = dict[str, Any]

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
"""Token types of llama.cpp that are not ordinary text."""

WORDS_OF_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORDS_OF_QWEN2 = WORDS_OF_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
"""The patterns that these models' own tokenizer.json files split text by."""


class _Splitting(Struct, frozen=True):
    """What a named pre-tokenizer of llama.cpp means in a tokenizer.json."""

    steps: tuple[Json, ...]
    normalizer: Json | None = None
    ignore_merges: bool = False
    adds_bos: bool = False
    """Where the file does not say."""


def _byte_level(*, use_regex: bool) -> Json:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _split(pattern: str) -> Json:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


_LLAMA3 = _Splitting(
    (_split(WORDS_OF_LLAMA3), _byte_level(use_regex=False)), ignore_merges=True, adds_bos=True
)
_SPLITTINGS = {
    "gpt-2": _Splitting((_byte_level(use_regex=True),)),
    "smollm": _Splitting(
        ({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True))
    ),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _Splitting(
        (_split(WORDS_OF_QWEN2), _byte_level(use_regex=False)), normalizer={"type": "NFC"}
    ),
}


class _Vocabulary(Struct, frozen=True):
    """The tokenizer fields of the metadata, checked for being there."""

    tokens: list[str]
    types: list[int]
    metadata: Mapping[str, Any]

    def token(self, role: str) -> str | None:
        """The token in a role such as ``bos`` or ``eos``; None where there is none."""
        index = self.metadata.get(f"tokenizer.ggml.{role}_token_id")
        if isinstance(index, int) and 0 <= index < len(self.tokens):
            return self.tokens[index]
        return None

    def flag(self, name: str, *, default: bool) -> bool:
        return bool(self.metadata.get(f"tokenizer.ggml.{name}", default))


def tokenizer_json(path: Path, metadata: Mapping[str, Any]) -> Json:
    """The contents of tokenizer.json.

    Raises:
        BrokenModel: the vocabulary is missing or incomplete.
        UnsupportedModel: it is of a kind that is not known here.
    """
    vocabulary = _vocabulary(path, metadata)
    match metadata.get("tokenizer.ggml.model"):
        case "gpt2":
            return _byte_level_bpe(path, vocabulary)
        case "llama":
            return _sentencepiece(path, vocabulary)
        case other:
            raise UnsupportedModel("GGUF tokenizer", other, ["gpt2", "llama"])


def tokenizer_config(path: Path, metadata: Mapping[str, Any]) -> Json:
    """The contents of tokenizer_config.json: the named tokens and the chat template."""
    vocabulary = _vocabulary(path, metadata)
    return {
        "bos_token": vocabulary.token("bos"),
        "eos_token": vocabulary.token("eos"),
        "unk_token": vocabulary.token("unknown"),
        "pad_token": vocabulary.token("padding"),
        "chat_template": metadata.get("tokenizer.chat_template"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }


def end_token_ids(metadata: Mapping[str, Any]) -> list[int]:
    """Every token that ends a text or a turn, as the file says."""
    named = (metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("eos", "eot", "eom"))
    return sorted({index for index in named if isinstance(index, int)})


def _vocabulary(path: Path, metadata: Mapping[str, Any]) -> _Vocabulary:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not tokens:
        raise BrokenModel(path, "has no vocabulary (tokenizer.ggml.tokens)")
    types = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise BrokenModel(path, f"has {len(types)} token types for {len(tokens)} tokens")
    return _Vocabulary(tokens, types, metadata)


def _byte_level_bpe(path: Path, vocabulary: _Vocabulary) -> Json:
    name = vocabulary.metadata.get("tokenizer.ggml.pre", "gpt-2")
    if name not in _SPLITTINGS:
        raise UnsupportedModel("GGUF pre-tokenizer", name, _SPLITTINGS)
    splitting = _SPLITTINGS[name]
    merges = [pair.split(" ") for pair in vocabulary.metadata.get("tokenizer.ggml.merges", ())]
    if any(len(pair) != 2 for pair in merges):
        raise BrokenModel(path, "a merge in tokenizer.ggml.merges is not two tokens")
    adds_bos = vocabulary.flag("add_bos_token", default=splitting.adds_bos)
    return {
        "version": "1.0",
        "added_tokens": list(_added_tokens(vocabulary)),
        "normalizer": splitting.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(splitting.steps)},
        "post_processor": _begin_with_bos(vocabulary) if adds_bos else None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            **_bpe(vocabulary, merges),
            "ignore_merges": splitting.ignore_merges,
        },
    }


def _sentencepiece(path: Path, vocabulary: _Vocabulary) -> Json:
    scores = vocabulary.metadata.get("tokenizer.ggml.scores", ())
    if len(scores) != len(vocabulary.tokens):
        raise BrokenModel(path, f"has {len(scores)} scores for {len(vocabulary.tokens)} tokens")
    space = vocabulary.flag("add_space_prefix", default=True)
    adds_bos = vocabulary.flag("add_bos_token", default=True)
    merges = _merges_by_score(vocabulary.tokens, scores)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = [{"type": "Prepend", "prepend": "▁"}] if space else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space else []
    return {
        "version": "1.0",
        "added_tokens": list(_added_tokens(vocabulary)),
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": _begin_with_bos(vocabulary) if adds_bos else None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            **_bpe(vocabulary, merges),
            "unk_token": vocabulary.token("unknown") or "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _bpe(vocabulary: _Vocabulary, merges: list[list[str]]) -> Json:
    return {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(vocabulary.tokens)},
        "merges": merges,
    }


def _merges_by_score(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """SentencePiece joins the neighbours whose joint has the best score: the same as merges in the
    order of their joints' scores, where every way to halve a joint is a merge."""
    ids = {token: index for index, token in enumerate(tokens)}
    halves = [
        (-scores[ids[joint]], ids[joint[:at]], ids[joint[at:]], joint[:at], joint[at:])
        for joint in ids
        for at in range(1, len(joint))
        if joint[:at] in ids and joint[at:] in ids
    ]
    return [[left, right] for *_, left, right in sorted(halves)]


def _added_tokens(vocabulary: _Vocabulary) -> Iterator[Json]:
    for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if kind in (UNKNOWN, CONTROL, USER_DEFINED):
            yield {
                "id": index,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": kind != USER_DEFINED,
            }


def _begin_with_bos(vocabulary: _Vocabulary) -> Json | None:
    bos = vocabulary.token("bos")
    if bos is None:
        return None
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    index = vocabulary.tokens.index(bos)
    return {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
            first,
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {bos: {"id": bos, "ids": [index], "tokens": [bos]}},
    }
