"""One HTTP request's answers: one flow for each prompt, all of them in one stream of pieces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from itertools import accumulate

from bus.interface import BusError, PayloadTooLarge
from bus.messages import Usage
from bus.public import GenerateRequest, Spoken, Welcome
from bus.subjects import BadToken

from ..client import Client
from ..client_errors import ConnectionLost, NoRouter, RequestRejected
from .errors import HttpError, bad, refused
from .pieces import Piece, Reading, add


class Answers:
    """Iterate once. Leaving early cancels what is left of every flow."""

    def __init__(
        self,
        client: Client,
        model: str,
        requests: Sequence[GenerateRequest],
        headers: Mapping[str, str],
        tools: frozenset[str] = frozenset(),
    ) -> None:
        self._client, self._model, self._headers = client, model, headers
        self._requests = requests
        firsts = accumulate((request.n for request in requests), initial=0)
        self._readings = [
            Reading(request.n, first, tools)
            for request, first in zip(requests, firsts, strict=False)
        ]
        self.flow = ""
        """The first one's id, once it is accepted."""
        self.num_tokens = 0

    @property
    def usage(self) -> Usage:
        total = Usage()
        for reading in self._readings:
            total = add(total, reading.usage)
        return total

    async def pieces(self) -> AsyncGenerator[list[Piece], None]:
        """The first is empty: all is accepted.

        Raises:
            HttpError: one of the flows was refused, or failed.
        """
        async with aclosing(self._messages()) as messages:
            num_welcomed = 0
            async for number, message in messages:
                if isinstance(message, Welcome):
                    self.flow = self.flow or message.flow
                    num_welcomed += 1
                    if num_welcomed == len(self._requests):
                        yield []
                    continue
                self.num_tokens += len(getattr(message, "tokens", ()))
                pieces = self._readings[number].read(message)
                if pieces:
                    yield pieces

    async def _messages(self) -> AsyncGenerator[tuple[int, Welcome | Spoken], None]:
        if len(self._requests) == 1:
            async with aclosing(self._one(self._requests[0])) as messages:
                async for message in messages:
                    yield 0, message
            return
        async with _merged([self._one(r) for r in self._requests]) as merged:
            async for item in merged:
                yield item

    async def _one(self, request: GenerateRequest) -> AsyncGenerator[Welcome | Spoken, None]:
        try:
            answer = self._client.generate(self._model, request, self._headers)
            async with aclosing(answer) as messages:
                async for message in messages:
                    yield message
        except RequestRejected as error:
            raise refused(error.rejected.reason, error.rejected.message) from None
        except BadToken as error:
            raise HttpError(404, str(error), "model_not_found", "model") from None
        except OverflowError as error:
            raise bad(f"a number of the request is too large: {error}") from None
        except PayloadTooLarge as error:
            raise refused("too_large", str(error)) from None
        except (ConnectionLost, NoRouter, BusError) as error:
            raise HttpError(503, str(error), "unavailable") from None


@contextlib.asynccontextmanager
async def _merged(
    streams: Sequence[AsyncGenerator[Welcome | Spoken, None]],
) -> AsyncIterator[AsyncIterator[tuple[int, Welcome | Spoken]]]:
    """What all of them say, as it comes; the first that fails ends all."""
    heard: asyncio.Queue[tuple[int, Welcome | Spoken | Exception | None]] = asyncio.Queue(256)

    async def listen(number: int, stream: AsyncGenerator[Welcome | Spoken, None]) -> None:
        try:
            async with aclosing(stream):
                async for message in stream:
                    await heard.put((number, message))
        except Exception as error:  # whoever reads raises it
            await heard.put((number, error))
        await heard.put((number, None))

    async def read() -> AsyncIterator[tuple[int, Welcome | Spoken]]:
        num_open = len(streams)
        while num_open:
            number, message = await heard.get()
            if isinstance(message, Exception):
                raise message
            if message is None:
                num_open -= 1
            else:
                yield number, message

    tasks = [asyncio.create_task(listen(i, s)) for i, s in enumerate(streams)]
    try:
        yield read()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
