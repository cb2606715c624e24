"""Finds calls of tools in the text of an answer, while it comes.

Two ways of writing them are read, those of most models that were trained for tools:

* ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, any number, in the midst of text;
* one such object (``parameters`` does for ``arguments``) or a list of them, as the whole answer.

Text that may be the beginning of a call is held back; where it turns out to be none, it is text.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
from msgspec import Struct

OPENING: Final = "<tool_call>"
CLOSING: Final = "</tool_call>"


class Call(Struct, frozen=True):
    """``arguments`` is JSON text, as OpenAI's clients want it."""

    name: str
    arguments: str


class CallReader:
    """Of one answer."""

    def __init__(self, names: frozenset[str]) -> None:
        """``names`` of the tools that there are: anything else is text."""
        self._names = names
        self._held = ""
        self._begun = False

    def feed(self, text: str) -> tuple[str, list[Call]]:
        """What is certain now: text to show, and calls."""
        self._held += text
        if not self._begun and self._held.lstrip()[:1] in ("", "{", "["):
            return "", []  # perhaps all of it is a call: seen at the end
        self._begun = True
        shown, calls = "", list[Call]()
        while OPENING in self._held:
            before, _, rest = self._held.partition(OPENING)
            inside, closing, after = rest.partition(CLOSING)
            if not closing:
                self._held = OPENING + rest
                return shown + before, calls
            shown, self._held = shown + before, after
            found = self._parse(inside)
            calls += found
            shown += "" if found else OPENING + inside + CLOSING
        cut = len(self._held) - _overlap(self._held)
        shown, self._held = shown + self._held[:cut], self._held[cut:]
        return shown, calls

    def end(self) -> tuple[str, list[Call]]:
        """What is left when the answer is over."""
        held, self._held = self._held, ""
        calls = self._parse(held.removeprefix(OPENING))
        return ("", calls) if calls else (held, [])

    def _parse(self, text: str) -> list[Call]:
        try:
            found = msgspec.json.decode(text)  # unlike `json`, no halves of characters, and no NaN
            entries = found if isinstance(found, list) else [found]
            calls = [self._call(entry) for entry in entries]
        except (msgspec.DecodeError, RecursionError):
            return []
        return [] if None in calls else [call for call in calls if call is not None]

    def _call(self, entry: Any) -> Call | None:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in self._names:
            return None
        arguments = entry.get("arguments", entry.get("parameters", {}))
        if not isinstance(arguments, dict):
            return None
        return Call(name, json.dumps(arguments, ensure_ascii=False))


def _overlap(text: str) -> int:
    """How many characters at the end may be the beginning of `OPENING`."""
    longest = min(len(text), len(OPENING) - 1)
    return next((n for n in range(longest, 0, -1) if OPENING.startswith(text[-n:])), 0)
