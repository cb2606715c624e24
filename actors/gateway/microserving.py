"""The routes of the paper's interface: an HTTP client plays router, and we speak for it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import aclosing

from aiohttp import web

from bus.messages import Prepared, PrepRecv, RemoteSend, Request, Sent, StartGenerate

from ..intake import BadRequest, admit
from ..router import Desk
from . import sse
from .bodies import read as read_body
from .commanding import Commander, PaperFlow
from .errors import HttpError, bad, refused
from .paper import Call, Ticket, position, seal, ticket_of
from .pieces import Reading, Spell
from .plain import json_answer
from .requests import completion_requests
from .shapes import CompletionShape, Head
from .watching import Watcher


class Microserving:
    def __init__(
        self,
        commander: Commander,
        watcher: Watcher,
        desks: Mapping[str, Desk],
        spells: Mapping[str, Spell],
    ) -> None:
        self._commander, self._watcher = commander, watcher
        self._desks, self._spells = desks, spells

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{prefix}/microserving/{name}", handler)
            for prefix in ("", "/engines/{engine}")
            for name, handler in (
                ("prep_recv", self.prep_recv),
                ("remote_send", self.remote_send),
                ("start_generate", self.start_generate),
            )
        ]

    # --- the three calls ---

    async def prep_recv(self, request: web.Request) -> web.Response:
        call, engine = await self._read(request)
        flow = self._commander.begin(self._admitted(call))
        size = len(flow.prompt.prompt)
        end = size if call.last is None else position(call.last, size, "end")
        answer = await self._commander.call(flow, PrepRecv(engine, flow.prompt.prompt, end))
        assert isinstance(answer, Prepared)
        sealed = seal(Ticket(flow.id, engine, flow.engines[engine], answer.grant))
        told = {
            "prompt_length": size,
            "prefix_matched_length": answer.matched,
            "kv_append_metadata": sealed,
            "kv_addr_info": sealed,
            "flow": flow.id,
        }
        return json_answer(told)

    async def remote_send(self, request: web.Request) -> web.Response:
        call, engine = await self._read(request)
        ticket = ticket_of(call)
        flow = self._commander.known(ticket.flow)
        if flow.engines.get(ticket.receiver) != ticket.epoch:
            raise HttpError(409, "kv_addr_info is of another flow", "stale_epoch", "kv_addr_info")
        prompt = self._of_same_prompt(call, flow).prompt
        begin = position(call.first, len(prompt), "begin")
        end = len(prompt) if call.last is None else position(call.last, len(prompt), "end")
        answer = await self._commander.call(
            flow, RemoteSend(engine, prompt, ticket.grant, begin, end)
        )
        assert isinstance(answer, Sent)
        told = {"num_bytes": answer.num_bytes, "seconds": answer.seconds, "lane": answer.lane}
        return json_answer(told)

    async def start_generate(self, request: web.Request) -> web.StreamResponse:
        call, engine = await self._read(request)
        flow = self._of(call, engine)
        asked = self._of_same_prompt(call, flow)
        prompt = asked.prompt
        begin = position(call.first, len(prompt), "begin")
        command = StartGenerate(engine, prompt, begin, asked.sampling, self._commander.mailbox)
        n = asked.sampling.n
        shape, reading = CompletionShape(self._spells[call.model]), Reading(n)
        head = Head(f"cmpl-{flow.id}", call.model, int(time.time()))
        async with aclosing(self._commander.generate(flow, command)) as messages:
            await anext(messages)
            if not call.stream:
                pieces = [p async for m in messages if m for p in reading.read(m)]
                return json_answer(shape.whole(head, pieces, reading.usage))
            response = web.StreamResponse(headers=sse.HEADERS)
            await response.prepare(request)
            async for message in messages:
                for piece in reading.read(message) if message else ():
                    await response.write(sse.frame(shape.chunk(head, piece)))
            if call.include_usage:
                await response.write(sse.frame(shape.last(head, reading.usage)))
            await response.write(sse.DONE)
            return response

    # --- what they are about ---

    async def _read(self, request: web.Request) -> tuple[Call, str]:
        call = read_body(Call, await request.read())
        engine = request.match_info.get("engine") or call.engine
        alive = [b.engine for b in self._watcher.beats() if b.model == call.model]
        if engine not in alive:
            which = f"no engine {engine[:80]!r}" if engine else "engine is missing"
            why = f"{which}: of {call.model[:80]!r} there are {', '.join(alive) or 'none'}"
            raise HttpError(404 if engine else 400, why, "no_engine", "engine")
        assert engine is not None
        return call, engine

    def _admitted(self, call: Call) -> Request:
        """Checked as a router checks it."""
        desk = self._desks.get(call.model)
        if desk is None:
            raise HttpError(404, "this gateway has no tokenizer of it", "model_not_found", "model")
        requests = completion_requests(call)
        if len(requests) != 1:
            raise bad("one prompt is wanted", "prompt")
        box, seed = self._commander.mailbox, secrets.randbits(62)
        try:
            return admit(requests[0], box, desk.tokenizer, desk.limits, seed).request
        except BadRequest as error:
            raise refused(error.reason, error.message) from None

    def _of_same_prompt(self, call: Call, flow: PaperFlow) -> Request:
        """What is asked, where it is about what the flow began with."""
        asked = self._admitted(call)
        if asked.prompt != flow.prompt.prompt:
            raise bad("the prompt is not the one that the flow began with", "prompt")
        return asked

    def _of(self, call: Call, engine: str) -> PaperFlow:
        """The flow that this engine was prepared for; a new one where it was not."""
        if call.flow:
            return self._commander.known(call.flow)
        prompt = self._admitted(call)
        known = self._commander.prepared_for(engine, prompt.prompt)
        return known or self._commander.begin(prompt)
