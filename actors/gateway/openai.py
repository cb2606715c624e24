"""The routes of OpenAI's interface."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web
from msgspec import Struct

from bus.public import GenerateRequest
from observability import names
from observability.http import Answered
from observability.request_times import Timed
from observability.spans import Attribute

from ..client import Client
from ..clock import Clock
from . import bodies, sse
from .asking import Answers
from .errors import HttpError
from .metrics import Metrics, labels
from .pieces import Piece, Spell
from .plain import json_answer
from .requests import chat_request, completion_requests
from .shapes import ChatShape, CompletionShape, Head, Shape
from .tracing import Tracer
from .watching import Watcher

MAX_NAME = 80
CLIENT_CLOSED = 499
"""As a status of ours: the client went away before it was answered."""


class Asked(Struct, frozen=True):
    """A request that was read."""

    body: bodies.Common
    operation: str
    requests: Sequence[GenerateRequest]
    shape: Shape
    tools: frozenset[str] = frozenset()


class Course(Struct):
    """How an answer went."""

    first_s: float | None = None
    """When the first token came."""
    error: str = ""
    """Its status or ``cancelled``; also of an answer that began well and failed in the midst."""


class OpenAI:
    """``spells`` has, by model, what a token stands for; only log-probabilities need it."""

    def __init__(
        self,
        client: Client,
        watcher: Watcher,
        metrics: Metrics,
        spells: Mapping[str, Spell],
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._client, self._watcher, self._metrics = client, watcher, metrics
        self._tracer = tracer
        self._spells, self._clock = spells, clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/completions", self.completions),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{model}", self.model),
        ]

    async def models(self, request: web.Request) -> web.Response:
        return json_answer({"object": "list", "data": [_model(m) for m in self._watcher.models()]})

    async def model(self, request: web.Request) -> web.Response:
        name, known = request.match_info["model"], self._watcher.models()
        if name not in known:
            why = f"no model {name[:80]!r}; the fleet serves {', '.join(known) or 'none'}"
            raise HttpError(404, why, "model_not_found", "model")
        return json_answer(_model(name))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = bodies.read(bodies.CompletionBody, await request.read())
        spell = self._spell(body.model, body.logprobs is not None)
        requests = completion_requests(body)
        asked = Asked(body, "text_completion", requests, CompletionShape(spell))
        return await self._answer(request, asked)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = bodies.read(bodies.ChatBody, await request.read())
        spell = self._spell(body.model, bool(body.logprobs))
        asked = Asked(body, "chat", [chat_request(body)], ChatShape(spell), _tool_names(body))
        return await self._answer(request, asked)

    # --- answering ---

    async def _answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        began_s = self._clock()
        trace = self._tracer.begin(request.headers, began_s)
        answers = Answers(
            self._client, asked.body.model, asked.requests, trace.headers, asked.tools
        )
        course = Course()
        self._metrics.open += 1
        try:
            async with aclosing(self._timed(answers, course)) as pieces:
                if asked.body.stream:
                    return await self._stream(request, asked, answers, pieces)
                return await self._whole(asked, answers, pieces)
        except HttpError:
            raise  # noted where it came from: a stream tells of it and goes on
        except (asyncio.CancelledError, ConnectionError):
            course.error = "cancelled"
            raise
        except Exception:
            course.error = "500"
            raise
        finally:
            self._metrics.open -= 1
            now = self._clock()
            first_s = None if course.first_s is None else course.first_s - began_s
            told = labels(asked.operation, asked.body.model, self._watcher.models())
            count = sum(r.n for r in asked.requests)
            self._tracer.end(trace, request, now, _answered(asked, answers, course.error))
            self._metrics.observe(
                Timed(told, now - began_s, first_s, answers.num_tokens, count, course.error)
            )

    async def _timed(self, answers: Answers, course: Course) -> AsyncGenerator[list[Piece], None]:
        try:
            async with aclosing(answers.pieces()) as every:
                async for pieces in every:
                    if pieces and course.first_s is None:
                        course.first_s = self._clock()
                    yield pieces
        except HttpError as error:
            course.error = str(error.status)
            raise

    async def _whole(
        self, asked: Asked, answers: Answers, pieces: AsyncGenerator[list[Piece], None]
    ) -> web.Response:
        heard = [piece async for some in pieces for piece in some]
        whole = asked.shape.whole(_head(asked.body), heard, answers.usage)
        return json_answer(whole, headers={"X-Request-Id": answers.flow})

    async def _stream(
        self,
        request: web.Request,
        asked: Asked,
        answers: Answers,
        pieces: AsyncGenerator[list[Piece], None],
    ) -> web.StreamResponse:
        """The status is told when the flow is accepted; what fails later is an event."""
        await anext(pieces)
        head, shape = _head(asked.body), asked.shape
        response = web.StreamResponse(headers={**sse.HEADERS, "X-Request-Id": answers.flow})
        await response.prepare(request)
        extra = {"usage": None} if asked.body.include_usage else {}
        try:
            async for some in pieces:
                frames = [sse.frame({**shape.chunk(head, piece), **extra}) for piece in some]
                await response.write(b"".join(frames))
            if asked.body.include_usage:
                await response.write(sse.frame(shape.last(head, answers.usage)))
            await response.write(sse.DONE)
        except HttpError as error:
            await response.write(sse.frame(error.body))
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    def _spell(self, model: str, needed: bool) -> Spell:
        """
        Raises:
            HttpError: log-probabilities are told with the tokens' texts, and we have none.
        """
        if model not in self._spells and needed:
            known = ", ".join(sorted(self._spells)) or "none"
            why = f"logprobs need the tokenizer of {model[:80]!r}; this gateway has: {known}"
            raise HttpError(400, why, "not_supported", "logprobs")
        return self._spells.get(model, _unspelled)


def _unspelled(token: int) -> bytes:
    return b""


def _tool_names(body: bodies.ChatBody) -> frozenset[str]:
    if body.tool_choice == "none":
        return frozenset()
    return frozenset(function.get("name", "") for function in body.functions)


def _head(body: bodies.Common) -> Head:
    prefix = "chatcmpl" if isinstance(body, bodies.ChatBody) else "cmpl"
    return Head(f"{prefix}-{secrets.token_hex(12)}", body.model, int(time.time()))


def _answered(asked: Asked, answers: Answers, error: str) -> Answered:
    attributes: dict[str, Attribute] = {
        names.OPERATION: asked.operation,
        names.PROVIDER: "microserve",
        names.REQUEST_MODEL: asked.body.model[:MAX_NAME],
        names.OUTPUT_TOKENS: answers.num_tokens,
    }
    if answers.flow and len(asked.requests) == 1:
        attributes[names.FLOW] = answers.flow
    status = int(error) if error.isdigit() else CLIENT_CLOSED if error else 200
    return Answered(status, attributes, error or None)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "microserve"}
