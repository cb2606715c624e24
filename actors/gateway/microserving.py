"""The routes of the paper's interface: an HTTP client plays router, and we speak for it.

To engines the gateway is a router of its own name: it orders, and hears of the end of each order on
that router's event subject. A flow lives from `prep_recv` (or from a `start_generate` without one)
to the end of its generation. Whatever breaks it off (a client that goes away in the midst of a
call, a refusal, no further call for `IDLE_S`) releases it at every engine that it touched: that is
the fence, behind which engines reuse its pages.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from aiohttp import web

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, BusError, Message
from bus.messages import (
    Accepted,
    AnyCommand,
    Mailbox,
    Order,
    Prepared,
    PrepRecv,
    Refused,
    Release,
    RemoteSend,
    Report,
    Request,
    Sent,
    StartGenerate,
)
from bus.public import Batch, Done, Spoken
from bus.subjects import Subjects

from ..answer import Answer
from ..intake import BadRequest, admit
from ..router import Desk
from . import bodies, sse
from .errors import HttpError, bad, refused
from .paper import Call, Ticket, position, seal, ticket_of
from .pieces import Reading, Spell
from .plain import json_answer
from .shapes import CompletionShape, Head
from .watching import Watcher

ACCEPT_WITHIN_S = 2.0
IDLE_S = 30.0
"""As long as a grant lasts."""
CALL_WITHIN_S = 600.0


@dataclass
class _Flow:
    id: str
    prompt: Request
    engines: dict[str, int] = field(default_factory=dict)
    """Epochs of those that it touched."""
    open_calls: int = 0
    used_s: float = 0.0
    answer: Answer = field(default_factory=Answer)


class Microserving:
    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        watcher: Watcher,
        desks: Mapping[str, Desk],
        spells: Mapping[str, Spell],
    ) -> None:
        self._bus, self._subjects, self._watcher = bus, subjects, watcher
        self._desks, self._spells = desks, spells
        self._name = f"g-{secrets.token_hex(6)}"
        self._mailbox = bus.inbox()
        self._flows: dict[str, _Flow] = {}
        self._waiting: dict[tuple[str, str, str], asyncio.Future[Report]] = {}
        """By flow, verb and engine."""

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

    async def start(self) -> None:
        await self._bus.subscribe(self._subjects.event(self._name), self._on_report)
        await self._bus.subscribe(self._mailbox, self._on_batch)

    async def sweep(self) -> None:
        """Until cancelled: end flows that nobody goes on with."""
        while True:
            await asyncio.sleep(IDLE_S / 10)
            old = time.monotonic() - IDLE_S
            for flow in [f for f in self._flows.values() if not f.open_calls and f.used_s < old]:
                await self._release(flow)

    async def stop(self) -> None:
        for flow in list(self._flows.values()):
            await self._release(flow)

    # --- the three calls ---

    async def prep_recv(self, request: web.Request) -> web.Response:
        call, engine = await self._read(request)
        flow = self._new(call)
        size = len(flow.prompt.prompt)
        end = size if call.last is None else position(call.last, size, "end")
        answer = await self._call(flow, PrepRecv(engine, flow.prompt.prompt, end))
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
        flow = self._known(ticket.flow)
        if flow.engines.get(ticket.receiver) != ticket.epoch:
            raise HttpError(409, "kv_addr_info is of another flow", "stale_epoch", "kv_addr_info")
        prompt = flow.prompt.prompt
        if self._admitted(call).prompt != prompt:
            raise bad("the prompt is not the one that prep_recv was told", "prompt")
        begin = position(call.first, len(prompt), "begin")
        end = len(prompt) if call.last is None else position(call.last, len(prompt), "end")
        answer = await self._call(flow, RemoteSend(engine, prompt, ticket.grant, begin, end))
        assert isinstance(answer, Sent)
        told = {"num_bytes": answer.num_bytes, "seconds": answer.seconds, "lane": answer.lane}
        return json_answer(told)

    async def start_generate(self, request: web.Request) -> web.StreamResponse:
        call, engine = await self._read(request)
        flow = self._of(call, engine)
        prompt = flow.prompt.prompt
        begin = position(call.first, len(prompt), "begin")
        asked = self._admitted(call)
        box = Mailbox(self._mailbox, "msgpack")
        command = StartGenerate(engine, prompt, begin, asked.sampling, box)
        n = asked.sampling.n
        shape, reading = CompletionShape(self._spells[call.model]), Reading(n)
        head = Head(f"cmpl-{flow.id}", call.model, int(time.time()))
        async with aclosing(self._generate(flow, command)) as messages:
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

    async def _generate(
        self, flow: _Flow, command: StartGenerate
    ) -> AsyncGenerator[Spoken | None, None]:
        """First None, when the engine has accepted; then the answer."""
        flow.open_calls += 1
        try:
            ended = await self._order(flow, command)
            yield None
            while True:
                message = flow.answer.read()
                if message is not None:
                    yield message
                    if isinstance(message, Done):
                        self._flows.pop(flow.id, None)
                        return
                    continue
                if ended.done() and isinstance(refusal := ended.result().event, Refused):
                    raise refused(refusal.reason, refusal.message)
                news = flow.answer.news()
                waits = (news,) if ended.done() else (news, ended)
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            flow.open_calls -= 1
            self._waiting.pop((flow.id, "StartGenerate", command.engine), None)
            if flow.id in self._flows:
                await self._release(flow)

    # --- flows ---

    async def _read(self, request: web.Request) -> tuple[Call, str]:
        call = bodies.read(Call, await request.read())
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
        requests = bodies.completion_requests(call)
        if len(requests) != 1:
            raise bad("one prompt is wanted", "prompt")
        box, seed = Mailbox(self._mailbox, "msgpack"), secrets.randbits(62)
        try:
            return admit(requests[0], box, desk.tokenizer, desk.limits, seed).request
        except BadRequest as error:
            raise refused(error.reason, error.message) from None

    def _new(self, call: Call) -> _Flow:
        flow = _Flow(secrets.token_hex(16), self._admitted(call), used_s=time.monotonic())
        self._flows[flow.id] = flow
        return flow

    def _known(self, id: str) -> _Flow:  # noqa: A002 - what it is
        if id not in self._flows:
            why = f"flow {id[:64]!r} is over, or was never begun here"
            raise HttpError(404, why, "no_such_flow", "flow")
        return self._flows[id]

    def _of(self, call: Call, engine: str) -> _Flow:
        """The flow that this engine was prepared for; a new one where it was not."""
        if call.flow:
            return self._known(call.flow)
        prompt = self._admitted(call).prompt
        for flow in reversed(self._flows.values()):
            if engine in flow.engines and flow.prompt.prompt == prompt and not flow.open_calls:
                return flow
        return self._new(call)

    # --- orders ---

    async def _call(self, flow: _Flow, command: AnyCommand) -> object:
        """How the command ended; a flow that is refused or left is released.

        Raises:
            HttpError: it was refused, or the engine was lost.
        """
        flow.open_calls += 1
        well = False
        try:
            ended = await self._order(flow, command)
            async with asyncio.timeout(CALL_WITHIN_S):
                event = (await ended).event
            if isinstance(event, Refused):
                raise refused(event.reason, event.message)
            well = True
            return event
        except TimeoutError:
            raise HttpError(504, f"{command.engine} did not end in time", "timed_out") from None
        finally:
            flow.open_calls -= 1
            flow.used_s = time.monotonic()
            self._waiting.pop((flow.id, type(command).__name__, command.engine), None)
            if not well:
                await self._release(flow)

    async def _order(self, flow: _Flow, command: AnyCommand) -> asyncio.Future[Report]:
        """Accepted; the future is done when it has ended."""
        engine, verb = command.engine, type(command).__name__
        epoch = next((b.epoch for b in self._watcher.beats() if b.engine == engine), 0)
        flow.engines.setdefault(engine, epoch)
        key = (flow.id, verb, engine)
        if key in self._waiting:
            raise HttpError(409, f"{verb} is under way already", "out_of_order")
        ended = self._waiting[key] = asyncio.get_running_loop().create_future()
        order = Order(flow.id, 1, self._name, command, flow.engines[engine])
        subject = self._subjects.command(engine, verb)
        try:
            reply = await self._bus.request(subject, encode(order), timeout_s=ACCEPT_WITHIN_S)
            answer = decode(reply.payload, Accepted | Refused)
        except BusError as error:
            raise HttpError(503, f"engine {engine}: {error}", "no_engine") from None
        if isinstance(answer, Refused):
            raise refused(answer.reason, answer.message)
        return ended

    async def _release(self, flow: _Flow) -> None:
        """Every engine that it touched frees its pages, behind its own fence."""
        self._flows.pop(flow.id, None)
        for engine, epoch in flow.engines.items():
            order = Order(flow.id, 1, self._name, Release(engine), epoch)
            with suppress(BusError):
                await self._bus.publish(self._subjects.command(engine, "Release"), encode(order))

    # --- what comes in ---

    async def _on_report(self, message: Message) -> None:
        with suppress(Undecodable):
            report = decode(message.payload, Report)
            event = report.event
            verb = event.verb if isinstance(event, Refused) else _VERBS.get(type(event).__name__)
            ended = self._waiting.get((report.flow, verb or "", report.engine))
            if ended is not None and not ended.done():
                ended.set_result(report)

    async def _on_batch(self, message: Message) -> None:
        with suppress(Undecodable):
            for spoken in decode(message.payload, Batch):
                flow = self._flows.get(spoken.flow) if isinstance(spoken, Spoken) else None
                if flow is not None:
                    flow.answer.put(spoken)


_VERBS = {"Prepared": "PrepRecv", "Sent": "RemoteSend", "Finished": "StartGenerate"}
