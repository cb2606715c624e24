"""Text to token ids and back, as one model wants it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from bus.public import ChatMessage

from .chat import ChatTemplate
from .detokenizer import spelling
from .model_errors import BrokenModel, ChatTemplateError
from .runner import Detokenizer

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>")
"""End an assistant's turn wherever a vocabulary has them, whatever the configuration lists."""


class Tokenizer:
    """The vocabulary of one model. Thread-safe: nothing changes after it was made."""

    end_tokens: frozenset[int]
    """Each of these ends an answer."""
    vocab_size: int
    """Number of token ids that mean something; a model may have more rows than that."""

    def __init__(self, path: Path) -> None:
        """Read tokenizer.json and what lies beside it in the folder.

        Raises:
            BrokenModel: a file is missing or damaged.
            UnsupportedModel: its decoder cannot work one token at a time.
        """
        self._folder = path
        self._tokenizer = _open(path / "tokenizer.json")
        self._settings = _read_json(path / "tokenizer_config.json")
        self._special = _special_ids(self._tokenizer)
        self._spelling = spelling(_decoder(self._tokenizer), self._text_of)
        self.end_tokens = self._find_end_tokens()
        self.vocab_size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self._chat: ChatTemplate | ChatTemplateError = self._open_chat()

    def encode(self, text: str) -> list[int]:
        """The tokens of a plain text, with those that this model expects around every text."""
        return list(self._tokenizer.encode(text, add_special_tokens=True).ids)

    def chat(
        self, messages: Sequence[ChatMessage], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """The prompt of a conversation, ready for the assistant's next turn.

        Raises:
            ChatTemplateError: the model has no chat template, or it rejects these messages, or
                knows no tools.
        """
        if isinstance(self._chat, ChatTemplateError):
            raise ChatTemplateError(self._chat.why)
        text = self._chat.render(messages, tools)
        # The template has written every special token that belongs here, BOS included.
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    @property
    def document(self) -> str:
        """The text of a tokenizer.json that says the same."""
        return self._tokenizer.to_str()

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a whole answer, without special tokens."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True)

    def bytes_of(self, token: int) -> bytes:
        """What one token stands for, by itself: perhaps a part of a character. Special tokens,
        which are no text, are spelled as the vocabulary has them."""
        if token in self._special:
            return (self._tokenizer.id_to_token(token) or "").encode()
        return self._spelling.bytes_of(token)

    def detokenizer(self) -> Detokenizer:
        """A new one for one answer; all its text together equals `decode` of all its tokens."""
        return self._spelling.detokenizer()

    def _text_of(self, token: int) -> str | None:
        return None if token in self._special else self._tokenizer.id_to_token(token)

    def _find_end_tokens(self) -> frozenset[int]:
        ids = {
            *_listed_ids(_read_json(self._folder / "config.json")),
            *_listed_ids(_read_json(self._folder / "generation_config.json")),
        }
        names = (_content(self._settings.get("eos_token")), *TURN_ENDS)
        found = (self._tokenizer.token_to_id(name) for name in names if name)
        return frozenset(ids | {token for token in found if token is not None})

    def _open_chat(self) -> ChatTemplate | ChatTemplateError:
        """A model without a usable template still completes plain text: tell who asks for chat."""
        source = _template_source(self._folder, self._settings)
        if source is None:
            return ChatTemplateError("this model has no chat template: send a plain prompt")
        names = {name: _content(self._settings.get(name)) for name in _SPECIAL_NAMES}
        try:
            return ChatTemplate(source, {name: text for name, text in names.items() if text})
        except ChatTemplateError as error:
            return error


_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


def _open(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise BrokenModel(
            path, "is missing; save the model with a fast tokenizer (transformers writes it)"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception for everything
        raise BrokenModel(path, f"is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _decoder(tokenizer: tokenizers.Tokenizer) -> dict[str, Any] | None:
    decoder: dict[str, Any] | None = json.loads(tokenizer.to_str())["decoder"]
    return decoder


def _special_ids(tokenizer: tokenizers.Tokenizer) -> frozenset[int]:
    added = tokenizer.get_added_tokens_decoder()
    return frozenset(token for token, entry in added.items() if entry.special)


def _read_json(path: Path) -> dict[str, Any]:
    """A file that need not be there."""
    try:
        contents = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BrokenModel(path, str(error)) from error
    if not isinstance(contents, dict):
        raise BrokenModel(path, "is not a JSON object")
    return contents


def _listed_ids(config: Mapping[str, Any]) -> set[int]:
    given = config.get("eos_token_id")
    listed = given if isinstance(given, list) else [given]
    return {token for token in listed if isinstance(token, int)}


def _content(token: object) -> str | None:
    """Named tokens are strings, or objects with a ``content``."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _template_source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """A file of its own wins over the entry in tokenizer_config.json, as in transformers."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    given = settings.get("chat_template")
    if isinstance(given, list):
        given = {entry["name"]: entry["template"] for entry in given}.get("default")
    return given if isinstance(given, str) else None
