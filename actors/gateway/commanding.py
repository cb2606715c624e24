"""The gateway as a router of its own name: it orders commands, and waits until they have ended.

It does so for clients of the paper's interface. A flow lives from its first command to the end of
its generation. Whatever breaks it off (a client that goes away in the midst of a call, a refusal,
no further call for a while) releases it at every engine that it touched: that is the fence, behind
which engines reuse its pages.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, BusError, Message
from bus.messages import (
    Accepted,
    AnyCommand,
    Mailbox,
    Order,
    Reason,
    Refused,
    Release,
    Report,
    Request,
    StartGenerate,
)
from bus.public import Batch, Done, Spoken
from bus.subjects import Subjects
from bus.tokens import Tokens

from ..answer import Answer, Lost
from .errors import HttpError, refused
from .watching import Watcher

ACCEPT_WITHIN_S = 2.0
IDLE_S = 30.0
"""As long as a grant lasts."""
CALL_WITHIN_S = 600.0

Key: TypeAlias = tuple[str, str, str]
"""A call: its flow, verb and engine."""


@dataclass
class PaperFlow:
    id: str
    prompt: Request
    engines: dict[str, int] = field(default_factory=dict)
    """Epochs of those that it touched."""
    open_calls: int = 0
    used_s: float = 0.0
    answer: Answer = field(default_factory=Answer)


class Commander:
    def __init__(
        self, bus: Bus, subjects: Subjects, watcher: Watcher, idle_s: float = IDLE_S
    ) -> None:
        self._bus, self._subjects, self._watcher = bus, subjects, watcher
        self._idle_s = idle_s
        self._name = f"g-{secrets.token_hex(6)}"
        self.mailbox = Mailbox(bus.inbox(), "msgpack")
        """Where engines send the tokens of these flows."""
        self._flows: dict[str, PaperFlow] = {}
        self._waiting: dict[Key, asyncio.Future[Report]] = {}

    async def start(self) -> None:
        await self._bus.subscribe(self._subjects.event(self._name), self._on_report)
        await self._bus.subscribe(self.mailbox.subject, self._on_batch)

    async def sweep(self) -> None:
        """Until cancelled: end flows that nobody goes on with, and calls of engines that are
        lost."""
        missed: set[Key] = set()
        while True:
            await asyncio.sleep(self._idle_s / 10)
            old = time.monotonic() - self._idle_s
            for flow in [f for f in self._flows.values() if not f.open_calls and f.used_s < old]:
                await self._release(flow)
            before, missed = missed, self._missed()
            for key in before & missed:  # once may be our own pause: beats wait to be read
                self._give_up(key, "no_engine", f"engine {key[2]} was lost")

    def _missed(self) -> set[Key]:
        """Calls of engines that are not alive."""
        alive = {(beat.engine, beat.epoch) for beat in self._watcher.beats()}
        flows = self._flows
        return {
            key
            for key in self._waiting
            if key[0] in flows and (key[2], flows[key[0]].engines.get(key[2])) not in alive
        }

    def _give_up(self, key: Key, reason: Reason, message: str) -> None:
        """Nothing more will be heard of this call: it ends as if the engine had refused it."""
        ended = self._waiting[key]
        if not ended.done():
            flow, verb, engine = key
            ended.set_result(Report(flow, 1, engine, 0, Refused(verb, reason, message)))

    async def stop(self) -> None:
        for flow in list(self._flows.values()):
            await self._release(flow)

    # --- flows ---

    def begin(self, prompt: Request) -> PaperFlow:
        flow = PaperFlow(secrets.token_hex(16), prompt, used_s=time.monotonic())
        self._flows[flow.id] = flow
        return flow

    def known(self, id: str) -> PaperFlow:  # noqa: A002 - what it is
        if id not in self._flows:
            why = f"flow {id[:64]!r} is over, or was never begun here"
            raise HttpError(404, why, "no_such_flow", "flow")
        return self._flows[id]

    def prepared_for(self, engine: str, prompt: Tokens) -> PaperFlow | None:
        """The newest flow of this prompt that the engine has part in and that nobody is at."""
        for flow in reversed(self._flows.values()):
            if engine in flow.engines and flow.prompt.prompt == prompt and not flow.open_calls:
                return flow
        return None

    # --- commands ---

    async def call(self, flow: PaperFlow, command: AnyCommand) -> object:
        """How the command ended; a flow that is refused or left is released.

        Raises:
            HttpError: it was refused, or the engine was lost; or such a call is under way, which
                goes on.
        """
        key, ended = self._expect(flow, command)
        flow.open_calls += 1
        well = False
        try:
            await self._order(flow, command)
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
            del self._waiting[key]
            if not well:
                await self._release(flow)

    def _expect(self, flow: PaperFlow, command: AnyCommand) -> tuple[Key, asyncio.Future[Report]]:
        """The future is done when the command has ended, however that is."""
        key = flow.id, type(command).__name__, command.engine
        if key in self._waiting:
            raise HttpError(409, f"{key[1]} is under way already", "out_of_order")
        ended = self._waiting[key] = asyncio.get_running_loop().create_future()
        return key, ended

    async def _order(self, flow: PaperFlow, command: AnyCommand) -> None:
        """Returns when it is accepted."""
        engine, verb = command.engine, type(command).__name__
        epoch = next((b.epoch for b in self._watcher.beats() if b.engine == engine), 0)
        flow.engines.setdefault(engine, epoch)
        order = Order(flow.id, 1, self._name, command, flow.engines[engine])
        subject = self._subjects.command(engine, verb)
        try:
            reply = await self._bus.request(subject, encode(order), timeout_s=ACCEPT_WITHIN_S)
            answer = decode(reply.payload, Accepted | Refused)
        except BusError as error:
            raise HttpError(503, f"engine {engine}: {error}", "no_engine") from None
        if isinstance(answer, Refused):
            raise refused(answer.reason, answer.message)

    async def _release(self, flow: PaperFlow) -> None:
        """Every engine that it touched frees its pages, behind its own fence; calls of it that are
        under way end, since engines tell of nothing that they were told to release."""
        self._flows.pop(flow.id, None)
        for key in [key for key in self._waiting if key[0] == flow.id]:
            self._give_up(key, "no_such_flow", "the flow was released: another call of it failed")
        for engine, epoch in flow.engines.items():
            order = Order(flow.id, 1, self._name, Release(engine), epoch)
            with suppress(BusError):
                await self._bus.publish(self._subjects.command(engine, "Release"), encode(order))

    async def generate(
        self, flow: PaperFlow, command: StartGenerate
    ) -> AsyncGenerator[Spoken | None, None]:
        """First None, when the engine has accepted; then the answer.

        Raises:
            HttpError: as `call`.
        """
        key, ended = self._expect(flow, command)
        flow.open_calls += 1
        try:
            await self._order(flow, command)
            yield None
            while True:
                message = flow.answer.read()
                if message is not None:
                    assert not isinstance(message, Lost)
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
            del self._waiting[key]
            if flow.id in self._flows:
                await self._release(flow)

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
