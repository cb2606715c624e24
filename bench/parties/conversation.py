"""A party's end of its pipes: hear questions, say answers, leave when the benchmark does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar, overload

import msgspec
import uvloop
from msgspec import Struct

T = TypeVar("T")

LONGEST_LINE_BYTES: Final = 1 << 20
LEAVE_WITHIN_S: Final = 2.0


class Ready(Struct, frozen=True):
    """The answer to a party's configuration."""


class Ended(Exception):
    """The benchmark closed the pipe before it had asked."""


class Conversation:
    def __init__(self, questions: asyncio.StreamReader) -> None:
        self._questions = questions

    async def hear(self, kind: type[T]) -> T:
        """The next question.

        Raises:
            Ended: there will be none.
        """
        async for question in self.questions(kind):
            return question
        raise Ended

    @overload
    def questions(self, kind: type[T]) -> AsyncIterator[T]: ...
    @overload
    def questions(self, kind: Any) -> AsyncIterator[Any]: ...
    async def questions(self, kind: Any) -> AsyncIterator[Any]:
        """All questions until the benchmark closes the pipe."""
        while line := await self._questions.readline():
            yield msgspec.json.decode(line, type=kind)

    def say(self, answer: object) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()

    async def ended(self) -> None:
        """Returns when the benchmark has closed the pipe."""
        await self._questions.read()


Main: TypeAlias = Callable[[Conversation], Coroutine[Any, Any, None]]


def converse(main: Main) -> None:
    """Run a party in an event loop of uvloop until the benchmark closes the pipe."""
    uvloop.run(_converse(main))


async def _converse(main: Main) -> None:
    loop, questions = asyncio.get_running_loop(), asyncio.StreamReader(LONGEST_LINE_BYTES)
    work = asyncio.ensure_future(main(Conversation(questions)))
    loop.add_signal_handler(signal.SIGTERM, work.cancel)
    pipe, _ = await loop.connect_read_pipe(lambda: _Pipe(questions, work), sys.stdin)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        pipe.close()


class _Pipe(asyncio.StreamReaderProtocol):
    """Ends a party that is too busy to notice that nobody is there any more."""

    def __init__(self, questions: asyncio.StreamReader, work: asyncio.Future[None]) -> None:
        super().__init__(questions)
        self._work = work

    def eof_received(self) -> bool | None:
        asyncio.get_running_loop().call_later(LEAVE_WITHIN_S, self._work.cancel)
        return super().eof_received()
