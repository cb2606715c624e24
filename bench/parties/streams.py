"""What both sides of the token benchmark know: the tokens, the questions, and the check.

Stream ``number`` answers ``(number + offset) % VOCABULARY`` at every offset, so that a reader can
tell a token that is missing, doubled, out of order or of another stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from bus.public import Delta

from .conversation import Conversation, Ready

Encoding: TypeAlias = Literal["msgpack", "json"]

VOCABULARY: Final = 1000
TEXT: Final = " word"
ENDLESS: Final = 1 << 30
"""More tokens than anybody waits for."""


class Address(Struct, frozen=True):
    """Where the server of events listens."""

    url: str
    http: str
    """Which HTTP implementation uvicorn runs on."""


class Open(Struct, frozen=True, tag=True):
    """To a reader: have so many answers begun. Answered when all were accepted."""

    num_streams: int


class Emit(Struct, frozen=True, tag=True):
    """To a source: one token for every stream of a kind in each of so many steps.

    ``interval_s`` is the least time from step to step: 0 is as fast as back-pressure allows.
    Answered at once, when all streams are open.
    """

    num_steps: int
    num_streams: int
    encoding: Encoding = "json"
    interval_s: float = 0.0


class Collect(Struct, frozen=True, tag=True):
    """To a reader: so many tokens more are coming. Answered at once, and again when they have."""

    num_tokens: int


class Collected(Struct, frozen=True):
    at_s: float
    """When the last one came, on the monotonic clock that all processes share."""


class WrongToken(Exception):
    """A token was lost, doubled, out of order, or someone else's."""

    def __init__(self, number: int, expected: int, offset: int, tokens: tuple[int, ...]) -> None:
        super().__init__(
            f"stream {number}: expected token {token_at(number, expected)} at {expected}, "
            f"got {tokens} at {offset}"
        )
        self.number, self.expected, self.offset, self.tokens = number, expected, offset, tokens


def token_at(number: int, offset: int) -> int:
    return (number + offset) % VOCABULARY


def delta_at(flow: str, number: int, offset: int) -> Delta:
    return Delta(flow, offset, ((number + offset) % VOCABULARY,), TEXT)


class Pace:
    """Steps that are at least ``interval_s`` apart, as those of a device that computes are."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s, self._due_s = interval_s, time.monotonic()

    def wait(self) -> None:
        """On the device thread: a step that is not due yet takes until it is."""
        if self._interval_s:
            self._due_s += self._interval_s
            time.sleep(max(0.0, self._due_s - time.monotonic()))


class Tally:
    """Checks and counts the tokens that a reader has seen, and says when they are enough.

    It is cheap, because all readers are measured with it.
    """

    def __init__(self) -> None:
        self._offsets: dict[int, int] = defaultdict(int)
        self._missing = 0
        self._enough = asyncio.Event()
        self._wrong: WrongToken | None = None

    def expect(self, num_tokens: int) -> None:
        self._missing = num_tokens
        self._enough.clear()

    async def collected(self) -> Collected:
        """Returns when everything expected has come.

        Raises:
            WrongToken: something else came.
        """
        await self._enough.wait()
        if self._wrong is not None:
            raise self._wrong
        return Collected(time.monotonic())

    def token(self, number: int, offset: int, tokens: tuple[int, ...]) -> None:
        """One token of a stream; one that is wrong makes `collected` raise."""
        expected = self._offsets[number]
        if offset != expected or len(tokens) != 1 or tokens[0] != (number + offset) % VOCABULARY:
            self._wrong = self._wrong or WrongToken(number, expected, offset, tokens)
            self._enough.set()
        self._offsets[number] = expected + 1
        self._missing -= 1
        if not self._missing:
            self._enough.set()

    def count(self, num_tokens: int) -> None:
        """Tokens that somebody else has checked."""
        self._missing -= num_tokens
        if not self._missing:
            self._enough.set()


async def read_streams(
    conversation: Conversation, tally: Tally, open_streams: Callable[[int], Awaitable[None]]
) -> None:
    """A reader's part of the conversation."""
    async for question in conversation.questions(Open | Collect):
        match question:
            case Open(num_streams):
                await open_streams(num_streams)
                conversation.say(Ready())
            case Collect(num_tokens):
                tally.expect(num_tokens)
                conversation.say(Ready())
                conversation.say(await tally.collected())
