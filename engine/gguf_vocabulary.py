"""Make the Hugging Face tokenizer files out of a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, field

from .model_errors import BrokenModel, UnsupportedModel

Json: TypeAlias = dict[str, Any]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Token types of llama.cpp; the others are byte and unused tokens."""

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


def _key(name: str, default: Any = None) -> Any:
    return field(name=f"tokenizer.{name}", default=default)


class _Vocabulary(Struct, frozen=True):
    """The fields of the metadata that are about tokens."""

    kind: str | None = _key("ggml.model")
    splitting: str = _key("ggml.pre", "gpt-2")
    tokens: list[str] = _key("ggml.tokens", ())
    types: list[int] | None = _key("ggml.token_type")
    scores: list[float] | None = _key("ggml.scores")
    merges: list[str] = _key("ggml.merges", ())
    bos: int | None = _key("ggml.bos_token_id")
    eos: int | None = _key("ggml.eos_token_id")
    eot: int | None = _key("ggml.eot_token_id")
    eom: int | None = _key("ggml.eom_token_id")
    unknown: int | None = _key("ggml.unknown_token_id")
    padding: int | None = _key("ggml.padding_token_id")
    adds_bos: bool | None = _key("ggml.add_bos_token")
    adds_space: bool = _key("ggml.add_space_prefix", default=True)
    chat_template: str | None = _key("chat_template")

    def token(self, index: int | None) -> str | None:
        if index is None or not 0 <= index < len(self.tokens):
            return None
        return self.tokens[index]


def tokenizer_json(path: Path, metadata: Mapping[str, Any]) -> Json:
    """The contents of tokenizer.json.

    Raises:
        BrokenModel: the vocabulary is missing or incomplete.
        UnsupportedModel: it is of a kind that is not known here.
    """
    vocabulary = _vocabulary(path, metadata)
    match vocabulary.kind:
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
        "bos_token": vocabulary.token(vocabulary.bos),
        "eos_token": vocabulary.token(vocabulary.eos),
        "unk_token": vocabulary.token(vocabulary.unknown),
        "pad_token": vocabulary.token(vocabulary.padding),
        "chat_template": vocabulary.chat_template,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }


def end_token_ids(path: Path, metadata: Mapping[str, Any]) -> list[int]:
    """Every token that ends a text or a turn, as the file says."""
    vocabulary = _vocabulary(path, metadata)
    named = (vocabulary.eos, vocabulary.eot, vocabulary.eom)
    return sorted({index for index in named if index is not None})


def _vocabulary(path: Path, metadata: Mapping[str, Any]) -> _Vocabulary:
    try:
        vocabulary = msgspec.convert(dict(metadata), _Vocabulary)
    except msgspec.ValidationError as error:
        raise BrokenModel(path, f"the vocabulary is damaged: {error}") from error
    num_tokens = len(vocabulary.tokens)
    if not num_tokens:
        raise BrokenModel(path, "has no vocabulary (tokenizer.ggml.tokens)")
    for name, values in (("types", vocabulary.types), ("scores", vocabulary.scores)):
        if values is not None and len(values) != num_tokens:
            raise BrokenModel(path, f"has {len(values)} {name} for {num_tokens} tokens")
    return vocabulary


def _byte_level_bpe(path: Path, vocabulary: _Vocabulary) -> Json:
    splitting = _SPLITTINGS.get(vocabulary.splitting)
    if splitting is None:
        raise UnsupportedModel("GGUF pre-tokenizer", vocabulary.splitting, _SPLITTINGS)
    merges = [pair.split(" ") for pair in vocabulary.merges]
    if any(len(pair) != 2 for pair in merges):
        raise BrokenModel(path, "a merge in tokenizer.ggml.merges is not two tokens")
    return {
        "version": "1.0",
        "added_tokens": list(_added_tokens(vocabulary)),
        "normalizer": splitting.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(splitting.steps)},
        "post_processor": _begin_with_bos(vocabulary, default=splitting.adds_bos),
        "decoder": _byte_level(use_regex=True),
        "model": {
            **_bpe(vocabulary, merges),
            "ignore_merges": splitting.ignore_merges,
        },
    }


def _sentencepiece(path: Path, vocabulary: _Vocabulary) -> Json:
    if vocabulary.scores is None:
        raise BrokenModel(path, "has no scores for its tokens (tokenizer.ggml.scores)")
    merges = _merges_by_score(vocabulary.tokens, vocabulary.scores)
    space = vocabulary.adds_space
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = [{"type": "Prepend", "prepend": "▁"}] if space else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space else []
    return {
        "version": "1.0",
        "added_tokens": list(_added_tokens(vocabulary)),
        "normalizer": {"type": "Sequence", "normalizers": [*prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": _begin_with_bos(vocabulary, default=True),
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
            "unk_token": vocabulary.token(vocabulary.unknown) or "<unk>",
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
    types = vocabulary.types or [NORMAL] * len(vocabulary.tokens)
    for index, (token, kind) in enumerate(zip(vocabulary.tokens, types, strict=True)):
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


def _begin_with_bos(vocabulary: _Vocabulary, *, default: bool) -> Json | None:
    """The post-processor, where the file or else this kind of vocabulary wants one."""
    wanted = default if vocabulary.adds_bos is None else vocabulary.adds_bos
    bos = vocabulary.token(vocabulary.bos)
    if not wanted or bos is None:
        return None
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": index}} for index, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [first, one],
        "pair": [first, one, two],
        "special_tokens": {bos: {"id": bos, "ids": [vocabulary.bos], "tokens": [bos]}},
    }
