"""The JSON of OpenAI's answers: whole ones and chunks, of chats and of completions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from bus.messages import Usage
from bus.public import TokenLogprob

from .calls import Call
from .pieces import Piece, Spell


class Head(Struct, frozen=True):
    """What every chunk of an answer says."""

    id: str
    model: str
    created: int
    """Unix seconds."""


class Shape(Protocol):
    """Chats and completions differ in their words only."""

    def whole(self, head: Head, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]: ...

    def chunk(self, head: Head, piece: Piece) -> dict[str, Any]:
        """Of a choice's pieces in order."""
        ...

    def last(self, head: Head, usage: Usage) -> dict[str, Any]:
        """The chunk with the usage, for those who want it."""
        ...


def usage_of(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class ChatShape:
    def __init__(self, spell: Spell) -> None:
        self._spell = spell
        self._greeted: set[int] = set()
        self._num_calls: dict[int, int] = {}

    def whole(self, head: Head, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        choices = [self._choice(head, c, _of(pieces, c)) for c in _choices(pieces)]
        return {**_head(head, "chat.completion"), "choices": choices, "usage": usage_of(usage)}

    def chunk(self, head: Head, piece: Piece) -> dict[str, Any]:
        delta: dict[str, Any] = {}
        if piece.choice not in self._greeted:
            self._greeted.add(piece.choice)
            delta = {"role": "assistant", "content": ""}
        if piece.text:
            delta["content"] = piece.text
        if piece.calls:
            before = self._num_calls.get(piece.choice, 0)
            self._num_calls[piece.choice] = before + len(piece.calls)
            delta["tool_calls"] = _calls(head, piece.choice, piece.calls, before)
        choice = {
            "index": piece.choice,
            "delta": delta,
            "logprobs": self._logprobs(piece.logprobs),
            "finish_reason": piece.finish,
        }
        return {**_head(head, "chat.completion.chunk"), "choices": [choice]}

    def last(self, head: Head, usage: Usage) -> dict[str, Any]:
        return {**_head(head, "chat.completion.chunk"), "choices": [], "usage": usage_of(usage)}

    def _choice(self, head: Head, choice: int, pieces: Sequence[Piece]) -> dict[str, Any]:
        text = "".join(p.text for p in pieces)
        calls = [call for p in pieces for call in p.calls]
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message["content"] = text or None
            message["tool_calls"] = [
                {k: v for k, v in call.items() if k != "index"}
                for call in _calls(head, choice, calls, 0)
            ]
        return {
            "index": choice,
            "message": message,
            "logprobs": self._logprobs([e for p in pieces for e in p.logprobs]),
            "finish_reason": pieces[-1].finish,
        }

    def _logprobs(self, entries: Sequence[TokenLogprob | None]) -> dict[str, Any] | None:
        if not entries:
            return None
        return {"content": [self._entry(e) for e in entries if e is not None], "refusal": None}

    def _entry(self, entry: TokenLogprob) -> dict[str, Any]:
        top = [_spelled(self._spell(token), logprob) for token, logprob in entry.top]
        return {**_spelled(self._spell(entry.token), entry.logprob), "top_logprobs": top}


class CompletionShape:
    def __init__(self, spell: Spell) -> None:
        self._spell = spell
        self._offsets: dict[int, int] = {}

    def whole(self, head: Head, pieces: Sequence[Piece], usage: Usage) -> dict[str, Any]:
        choices = [
            self._choice(
                c,
                "".join(p.text for p in of),
                [e for p in of for e in p.logprobs],
                of[-1].finish,
            )
            for c in _choices(pieces)
            for of in (_of(pieces, c),)
        ]
        return {**_head(head, "text_completion"), "choices": choices, "usage": usage_of(usage)}

    def chunk(self, head: Head, piece: Piece) -> dict[str, Any]:
        choice = self._choice(piece.choice, piece.text, piece.logprobs, piece.finish)
        return {**_head(head, "text_completion"), "choices": [choice]}

    def last(self, head: Head, usage: Usage) -> dict[str, Any]:
        return {**_head(head, "text_completion"), "choices": [], "usage": usage_of(usage)}

    def _choice(
        self, choice: int, text: str, entries: Sequence[TokenLogprob | None], finish: str | None
    ) -> dict[str, Any]:
        return {
            "index": choice,
            "text": text,
            "logprobs": self._logprobs(choice, entries),
            "finish_reason": finish,
        }

    def _logprobs(
        self, choice: int, entries: Sequence[TokenLogprob | None]
    ) -> dict[str, Any] | None:
        if not entries:
            return None
        tokens = [_text(self._spell(e.token)) if e else "" for e in entries]
        offsets, at = [], self._offsets.get(choice, 0)
        for token in tokens:
            offsets.append(at)
            at += len(token)
        self._offsets[choice] = at
        return {
            "tokens": tokens,
            "token_logprobs": [e.logprob if e else None for e in entries],
            "top_logprobs": [
                {_text(self._spell(t)): p for t, p in e.top} if e and e.top else None
                for e in entries
            ],
            "text_offset": offsets,
        }


def _head(head: Head, kind: str) -> dict[str, Any]:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _calls(head: Head, choice: int, calls: Iterable[Call], first: int) -> list[dict[str, Any]]:
    """Ids are this answer's alone; clients send them back with the results."""
    return [
        {
            "index": number,
            "id": f"call_{choice}_{number}_{head.id[-8:]}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for number, call in enumerate(calls, first)
    ]


def _choices(pieces: Iterable[Piece]) -> list[int]:
    return sorted({p.choice for p in pieces})


def _of(pieces: Iterable[Piece], choice: int) -> list[Piece]:
    return [p for p in pieces if p.choice == choice]


def _spelled(spelled: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(spelled), "logprob": logprob, "bytes": list(spelled)}


def _text(spelled: bytes) -> str:
    return spelled.decode(errors="replace")
