"""Turn tokens into text one at a time, without ever showing half a character.

A tokenizer's decoder looks at all tokens at once. The two kinds that the supported models use can
be taken apart: every token stands for some bytes, and only the joints between tokens need care.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from .model_errors import UnsupportedModel
from .runner import Detokenizer

TokenText: TypeAlias = Callable[[int], str | None]
"""A token as the vocabulary spells it; None for ids outside of it and for special tokens."""

SUPPORTED = ["ByteLevel", "Replace, ByteFallback, Fuse, Strip"]
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Spelling(Protocol):
    """A decoder taken apart. Thread-safe; makes one `Detokenizer` per answer.

    The text of all `Detokenizer.push` and `Detokenizer.flush` together equals what the tokenizer
    decodes from all tokens at once, special tokens skipped.
    """

    def detokenizer(self) -> Detokenizer: ...

    def bytes_of(self, token: int) -> bytes:
        """What one token stands for; nothing for one that is no text."""
        ...


def spelling(decoder: dict[str, Any] | None, token_text: TokenText) -> Spelling:
    """Take apart the ``decoder`` of a tokenizer.json.

    Raises:
        UnsupportedModel: it is none of the known kinds.
    """
    steps = _steps(decoder)
    match [step["type"] for step in steps]:
        case ["ByteLevel"]:
            return ByteLevel(token_text)
        case ["Replace", "ByteFallback", "Fuse"]:
            return ByteFallback(token_text, _replacement(steps[0]))
        case ["Replace", "ByteFallback", "Fuse", "Strip"]:
            strip = steps[3]["content"], int(steps[3]["start"]), int(steps[3]["stop"])
            if strip[2] == 0:
                return ByteFallback(token_text, _replacement(steps[0]), strip[:2])
    raise UnsupportedModel("token decoder", decoder, SUPPORTED)


def _steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _steps(inner)]
    return [decoder]


def _replacement(step: dict[str, Any]) -> tuple[str, str]:
    if "String" not in step["pattern"]:
        raise UnsupportedModel("token decoder", step, SUPPORTED)
    return step["pattern"]["String"], step["content"]


# --- byte-level vocabularies: GPT-2, Llama 3, Qwen, SmolLM --------------------------------------


class ByteLevel:
    """Every character of a token's spelling stands for one byte."""

    def __init__(self, token_text: TokenText) -> None:
        self._token_text = token_text
        self._bytes: dict[int, bytes] = {}

    def detokenizer(self) -> Detokenizer:
        return _ByteLevelDetokenizer(self)

    def bytes_of(self, token: int) -> bytes:
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = spelled_bytes(self._token_text(token) or "")
        return known


class _ByteLevelDetokenizer:
    def __init__(self, parent: ByteLevel) -> None:
        self._parent = parent
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._parent.bytes_of(token))

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet (``bytes_to_unicode`` in its encoder.py): printable bytes of Latin-1 are
    themselves, the others come in order from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {
        chr(0x100 + index): byte for index, byte in enumerate(others)
    }


BYTE_OF_CHARACTER = _byte_alphabet()


def spelled_bytes(text: str) -> bytes:
    """Tokens that were added as plain text are not spelled in the alphabet: they are themselves."""
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in text)
    except KeyError:
        return text.encode()


# --- SentencePiece vocabularies with byte fallback: Llama 2 -------------------------------------


class ByteFallback:
    """A token is text, or one byte spelled ``<0x41>``.

    A run of byte tokens becomes text when it ends, and not before: the tokenizers library decodes
    a run with one bad byte to one U+FFFD for *each* byte of it, good characters included.
    """

    def __init__(
        self,
        token_text: TokenText,
        replace: tuple[str, str],
        strip: tuple[str, int] = ("", 0),
    ) -> None:
        """``strip`` is a character and how many of it to take from the start of an answer."""
        self._token_text, self._replace, self.strip = token_text, replace, strip
        self._pieces: dict[int, str | int] = {}

    def detokenizer(self) -> Detokenizer:
        return _ByteFallbackDetokenizer(self)

    def bytes_of(self, token: int) -> bytes:
        piece = self.piece(token)
        return bytes((piece,)) if isinstance(piece, int) else piece.encode()

    def piece(self, token: int) -> str | int:
        """Text, or one byte as a number."""
        known = self._pieces.get(token)
        if known is None:
            known = self._pieces[token] = self._read(self._token_text(token) or "")
        return known

    def _read(self, text: str) -> str | int:
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            try:
                return int(text[3:5], 16)
            except ValueError:
                return text
        return text.replace(*self._replace)


class _ByteFallbackDetokenizer:
    def __init__(self, parent: ByteFallback) -> None:
        self._parent = parent
        self._run = bytearray()
        self._strip, self._left_to_strip = parent.strip

    def push(self, token: int) -> str:
        piece = self._parent.piece(token)
        if isinstance(piece, int):
            self._run.append(piece)
            return ""
        return self._stripped(self._end_run() + piece) if piece else ""

    def flush(self) -> str:
        return self._stripped(self._end_run())

    def _end_run(self) -> str:
        try:
            text = self._run.decode()
        except UnicodeDecodeError:
            text = REPLACEMENT * len(self._run)
        self._run.clear()
        return text

    def _stripped(self, text: str) -> str:
        while self._left_to_strip and text:
            if not text.startswith(self._strip):
                self._left_to_strip = 0
                break
            text = text[len(self._strip) :]
            self._left_to_strip -= 1
        return text
