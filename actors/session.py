"""The client for people: ask, and read tokens, whatever happens to the connection meanwhile.

An answer is a function of the request and its seed, so an answer whose beginning somebody has can
be asked for again: what he has is dropped, and he sees neither a gap nor a repeat.

```
first answer   |=========| connection lost
read so far    |=======|
asked again    |.......|================|      the same tokens; dots are dropped
```
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from bus.interface import BusError
from bus.messages import FinishReason, Usage
from bus.public import ChatMessage, Delta, Done, GenerateRequest, TokenLogprob, Welcome

from .client import Client
from .client_errors import ConnectionLost, GenerationFailed, NoEngine, NoRouter
from .served import only_model

Ask: TypeAlias = str | Sequence[ChatMessage] | GenerateRequest
"""A text to be continued, a chat, or a request with everything in it."""

MAX_SEED = 1 << 62
PATIENCE_S = 30.0
"""How long a lost connection is waited for, and then for a router and engines that lost theirs."""
PAUSE_S = 0.2


class Position(Struct, frozen=True):
    """How far somebody has read an answer: with the request, enough to go on from there, in
    another process, too."""

    seed: int
    num_tokens: int = 0
    num_characters: int = 0


class Token(Struct, frozen=True):
    """What came at once: mostly one token. ``text`` may be empty while a character is incomplete,
    and `str` of it is its text."""

    text: str
    ids: tuple[int, ...]
    offset: int
    """Of the first of them in the answer."""
    logprobs: tuple[TokenLogprob, ...] = ()

    def __str__(self) -> str:
        return self.text


class Answer(Struct, frozen=True):
    """All of it."""

    flow: str
    text: str
    ids: tuple[int, ...]
    reason: FinishReason
    usage: Usage


class Generation(AsyncIterator[Token]):
    """One answer. Iterate once, or await `answer`; leaving early cancels the request."""

    def __init__(self, client: Client, model: str, request: GenerateRequest, at: Position) -> None:
        if request.n != 1:
            raise ValueError(f"n is {request.n}: several answers in one are for 'Client.generate'")
        self._client, self._model = client, model
        self._request = replace(request, seed=at.seed)
        self._begin = at
        self.position = at
        """Of what was read so far."""
        self.flow = ""
        """Its id, once it was accepted; a new one each time that it is asked for again."""
        self.num_resumed = 0
        self.done: Done | None = None
        self._tokens = self._read()

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Token:
        return await anext(self._tokens)

    async def aclose(self) -> None:
        await self._tokens.aclose()

    async def answer(self) -> Answer:
        """The whole answer, or what is left of it.

        Raises:
            GenerateError: and its kinds.
        """
        found = [token async for token in self]
        assert self.done is not None
        ids = tuple(number for token in found for number in token.ids)
        text = "".join(token.text for token in found)
        return Answer(self.flow, text, ids, self.done.reason, self.done.usage)

    async def _read(self) -> AsyncGenerator[Token, None]:
        loop = asyncio.get_running_loop()
        lost_s: float | None = None
        while self.done is None:
            try:
                async with aclosing(self._once()) as tokens:
                    async for token in tokens:
                        lost_s = None
                        yield token
            except (ConnectionLost, NoRouter, NoEngine, BusError):
                now = loop.time()
                lost_s = now if lost_s is None else lost_s
                if not self.flow or now - lost_s > PATIENCE_S:
                    raise
                await asyncio.sleep(PAUSE_S)
                self.num_resumed += 1

    async def _once(self) -> AsyncGenerator[Token, None]:
        """What is new of the answer, asked for from its begin.

        Raises:
            ConnectionLost: also where only a part of the answer was lost on the way.
        """
        heard, characters = 0, 0
        async with aclosing(self._client.generate(self._model, self._request)) as messages:
            async for message in messages:
                if isinstance(message, Welcome):
                    self.flow = message.flow
                elif isinstance(message, Delta):
                    if message.offset > heard:
                        raise ConnectionLost
                    heard = message.offset + len(message.tokens)
                    characters += len(message.text)
                    token = self._unread(message, heard, characters)
                    if token is not None:
                        yield token
                elif isinstance(message, Done):
                    self._end(message, heard)

    def _unread(self, delta: Delta, heard: int, characters: int) -> Token | None:
        """What of it nobody has read yet."""
        at = self.position
        new, more = max(heard - at.num_tokens, 0), max(characters - at.num_characters, 0)
        if not (new or more):
            return None
        self.position = replace(
            at,
            num_tokens=max(heard, at.num_tokens),
            num_characters=max(characters, at.num_characters),
        )
        first = len(delta.tokens) - new
        return Token(
            delta.text[len(delta.text) - more :],
            delta.tokens[first:],
            delta.offset + first,
            delta.logprobs[first:],
        )

    def _end(self, done: Done, heard: int) -> None:
        """
        Raises:
            GenerationFailed: it could not be finished.
            ConnectionLost: what came before it did not arrive.
        """
        if done.reason == "error":
            raise GenerationFailed(done.flow, heard, done.message)
        if done.offset > heard:
            raise ConnectionLost
        self.done = done


class Session:
    """A connection to a system, for any number of requests at once."""

    def __init__(self, client: Client) -> None:
        self.client = client
        """For those who want every message as it comes."""
        self._model = ""

    async def model(self) -> str:
        """The one that the fleet serves.

        Raises:
            UnclearModel: there is none, or more than one: name it then.
        """
        if not self._model:
            self._model = await only_model(self.client.bus, self.client.subjects)
        return self._model

    async def generate(
        self, ask: Ask, *, model: str = "", resume: Position | None = None, **options: Any
    ) -> AsyncGenerator[Token, None]:
        """The tokens of an answer as they come. ``options`` are fields of `GenerateRequest`;
        ``resume`` is where somebody stopped reading the answer to this very request.

        Raises:
            GenerateError: and its kinds, each saying what can be done.
        """
        generation = await self.begin(ask, model=model, resume=resume, **options)
        async with aclosing(generation) as tokens:
            async for token in tokens:
                yield token

    async def begin(
        self, ask: Ask, *, model: str = "", resume: Position | None = None, **options: Any
    ) -> Generation:
        """The same as an object, which knows its position and its flow."""
        request = request_of(ask, **options)
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        at = resume or Position(seed)
        return Generation(self.client, model or await self.model(), request, at)

    async def batch(
        self, asks: Sequence[Ask], *, model: str = "", in_flight: int = 64, **options: Any
    ) -> list[Answer | Exception]:
        """The answer to each, in order, or why there is none; so many at a time."""
        name, room = model or await self.model(), asyncio.Semaphore(in_flight)

        async def one(ask: Ask) -> Answer:
            async with room:
                return await (await self.begin(ask, model=name, **options)).answer()

        found = await asyncio.gather(*map(one, asks), return_exceptions=True)
        for answer in found:
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
        return [answer for answer in found if isinstance(answer, Answer | Exception)]


def request_of(ask: Ask, **options: Any) -> GenerateRequest:
    if isinstance(ask, GenerateRequest):
        return replace(ask, **options)
    if isinstance(ask, str):
        return GenerateRequest(prompt=ask, **options)
    return GenerateRequest(messages=tuple(ask), **options)
