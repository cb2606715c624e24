"""An answer as OpenAI's clients see it: pieces of choices, whatever the messages were that came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from msgspec import Struct

from bus.messages import FinishReason, Usage
from bus.public import ChoiceDone, Delta, Done, Echo, Spoken, TokenLogprob, Welcome

from .calls import Call, CallReader
from .errors import HttpError

Spell: TypeAlias = Callable[[int], bytes]


class Piece(Struct, frozen=True):
    """More of one choice. ``finish`` is why it ended, in its last piece."""

    choice: int
    text: str = ""
    calls: tuple[Call, ...] = ()
    logprobs: tuple[TokenLogprob | None, ...] = ()
    """One for each token; none where none were asked for."""
    finish: str | None = None


class Reading:
    """Of the answers to one prompt. ``first`` is the number of its first choice."""

    def __init__(self, n: int = 1, first: int = 0, tools: frozenset[str] = frozenset()) -> None:
        self._n, self._first = n, first
        self._readers = defaultdict[int, CallReader](lambda: CallReader(tools)) if tools else None
        self._called: set[int] = set()
        self.usage = Usage()
        """Complete when the answer is over."""

    def read(self, message: Welcome | Spoken) -> list[Piece]:
        """
        Raises:
            HttpError: the answer failed.
        """
        match message:
            case Echo(text=text, logprobs=logprobs):
                return [Piece(self._first + c, text, (), logprobs) for c in range(self._n)]
            case Delta():
                return list(self._more(message))
            case ChoiceDone(choice=choice, reason=reason):
                return self._end(choice, reason)
            case Done(reason="error" | "cancelled"):
                raise failed(message)
            case Done(usage=usage, reason=reason):
                self.usage = usage
                return self._end(0, reason) if self._n == 1 else []
        return []

    def _more(self, delta: Delta) -> Iterator[Piece]:
        text, calls = delta.text, list[Call]()
        if self._readers is not None:
            text, calls = self._readers[delta.choice].feed(text)
        if calls:
            self._called.add(delta.choice)
        if text or calls or delta.logprobs:
            yield Piece(self._first + delta.choice, text, tuple(calls), delta.logprobs)

    def _end(self, choice: int, reason: FinishReason) -> list[Piece]:
        text, calls = self._readers[choice].end() if self._readers is not None else ("", [])
        called = calls or choice in self._called
        finish = "tool_calls" if called and reason == "stop" else reason
        return [Piece(self._first + choice, text, tuple(calls), (), finish)]


def failed(done: Done) -> HttpError:
    """What the client hears of an answer that did not come to its end."""
    if done.reason == "cancelled":
        return HttpError(500, "the request was cancelled", "cancelled")
    return HttpError(500, done.message or "the request failed", "internal")


def add(one: Usage, other: Usage) -> Usage:
    """Of several prompts."""
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.cached_tokens + other.cached_tokens,
        one.completion_tokens + other.completion_tokens,
    )
