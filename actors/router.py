"""The router host: a `RouterCore` on the bus, and the front desk where requests are admitted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from bus.codec import Undecodable, decode, encode, encode_json
from bus.interface import Bus, BusStatistics, Handler, Message, Subscription
from bus.messages import Beat, CacheChanged, Mailbox, Progress, Report
from bus.public import GenerateRequest, Rejected
from bus.subjects import last
from observability.metrics import Point
from observability.sink import SpanSink
from observability.spans import parse_traceparent

from .carrier import Carrier
from .clock import Clock
from .dispatch import Dispatch
from .effects import Effect, Keep, Send, Withdraw
from .intake import BadRequest, Intake, Limits, Tokenizer, admit, mailbox, read
from .patience import Patience
from .recorder import Recorder
from .router_metrics import router_points
from .routing import Asked, RouterCore, RouterInput, Ticked, Withdrawn
from .version_store import VersionStore
from .versioning import Versioning
from .wishes import Wishes

logger = logging.getLogger("microserve.router")

TICK_S = 0.25


class Desk(Struct, frozen=True):
    """What the front desk knows of one model."""

    tokenizer: Tokenizer
    limits: Limits


class Lasting(Struct, frozen=True):
    """What is there before a router and after it."""

    versions: VersionStore | None = None
    """None: what is installed serves."""
    recorder: Recorder | None = None
    """None: what happens to flows is not kept."""


class RouterHost:
    """Runs until cancelled. Flows in flight at that moment are ended, their pages released."""

    def __init__(
        self,
        bus: Bus,
        core: RouterCore,
        desks: Mapping[str, Desk],
        sink: SpanSink,
        clock: Clock,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        lasting: Lasting = Lasting(),  # noqa: B008 - frozen
    ) -> None:
        self.bus, self.core, self.desks, self.clock = bus, core, desks, clock
        self.patience = patience
        self._recorder = lasting.recorder
        versions = lasting.versions
        self._versioning = Versioning(versions, bus, self._feed) if versions else None
        self._carrier = Carrier(bus, sink)
        self._dispatch = Dispatch(bus, core.config.subjects, patience, clock)
        self._rejected = Counter[str]()
        self._wishes = Wishes(bus, core, self._feed, clock)
        self._tasks: asyncio.TaskGroup
        self._subscriptions: list[Subscription] = []
        self.ready = asyncio.Event()
        """Set when requests are taken."""

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    await self._subscribe()
                    self.ready.set()
                    while True:
                        await asyncio.sleep(TICK_S)
                        await self._tick(self.bus.statistics())
                finally:
                    await self._unsubscribe()
        finally:
            await self._abandon()

    async def _tick(self, bus: BusStatistics) -> None:
        self._dispatch.heed(bus)
        if bus.connected:  # else it is us who hear nobody
            await self._feed(Ticked())

    def points(self) -> list[Point]:
        """What it measures, now."""
        core, labels = self.core, {"router": self.core.config.router}
        times = list(core.history.points())
        waits_s = core.expected_waits_s(self.clock())
        return router_points(core.statistics(), times, self._rejected, waits_s, labels)

    async def _subscribe(self) -> None:
        """Requests last: the first one must find the fleet already known."""
        subjects, router = self.core.config.subjects, self.core.config.router
        await self._listen(subjects.every_beat, self._on_beat)
        await self._listen(subjects.every_cache, self._on_cache)
        await self._listen(subjects.event(router), self._on_report)
        await self._listen(subjects.tokens(router), self._on_tokens)
        await self._listen(subjects.every_cancel, self._on_cancel)
        self._subscriptions += await self._wishes.listen()
        if self._versioning:
            await self._versioning.start()
        await asyncio.sleep(self.patience.settle_s)
        await self._listen(subjects.every_generate, self._on_generate, queue="routers")

    async def _listen(self, subject: str, handler: Handler, queue: str = "") -> None:
        self._subscriptions.append(await self.bus.subscribe(subject, handler, queue=queue))

    async def _unsubscribe(self) -> None:
        """Requests first: whoever asks now gets another router, or hears at once that none is
        there. Nothing is handled that would need the tasks, which end after this."""
        while self._subscriptions:
            await self._subscriptions.pop().unsubscribe()
        if self._versioning:
            await self._versioning.stop()

    # --- what comes in ---

    async def _on_report(self, message: Message) -> None:
        await self._feed_decoded(message, Report)

    async def _on_beat(self, message: Message) -> None:
        await self._feed_decoded(message, Beat)

    async def _on_cache(self, message: Message) -> None:
        await self._feed_decoded(message, CacheChanged)

    async def _on_tokens(self, message: Message) -> None:
        await self._feed_decoded(message, Progress)

    async def _on_cancel(self, message: Message) -> None:
        await self._feed(Withdrawn(message.subject.split(".")[-2]))

    async def _feed_decoded(self, message: Message, kind: type[RouterInput]) -> None:
        try:
            event = decode(message.payload, kind)
        except Undecodable as error:
            logger.warning("unreadable message on %s: %s", message.subject, error)
            return
        await self._feed(event)

    async def _on_generate(self, message: Message) -> None:
        if not self._may_answer(message):
            return
        box = mailbox(message.payload, message.reply)
        try:
            asked = await self._admit(message)
        except BadRequest as bad:
            self._rejected[bad.reason] += 1
            rejected = Rejected(bad.reason, bad.message, bad.tag)
            json = box.encoding == "json"
            await self.bus.publish(
                box.subject, encode_json(rejected) if json else encode((rejected,))
            )
            return
        await self._feed(asked)

    def _may_answer(self, message: Message) -> bool:
        """Not to nobody, and not to ourselves."""
        if message.reply and not self.core.config.subjects.is_inside(message.reply):
            return True
        logger.warning("a request with the reply subject %r was ignored", message.reply)
        return False

    async def _admit(self, message: Message) -> Asked:
        request = read(message.payload)
        model = last(message.subject)
        desk = self.desks.get(model)
        if desk is None:
            known = ", ".join(sorted(self.desks))
            why = f"no model {model!r} here; this router serves {known}"
            raise BadRequest("unknown_model", why, request.tag)
        box = mailbox(message.payload, message.reply)
        limits = replace(desk.limits, orchestrations=self.core.catalog.names())
        intake = await _admit_off_loop(request, box, replace(desk, limits=limits))
        return Asked(
            secrets.token_hex(16),
            model,
            intake.request,
            intake.orchestration,
            intake.timeout_s,
            intake.tag,
            parse_traceparent(message.headers),
            intake.user,
        )

    # --- what goes out ---

    async def _feed(self, event: RouterInput) -> None:
        await self._carry(self.core.handle(event, self.clock()))

    async def _carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._tasks.create_task(self._send(effect))
            elif isinstance(effect, Keep) and self._recorder:
                self._recorder.keep(effect.recording)
            elif isinstance(effect, Withdraw) and self._versioning:
                config = self.core.config
                work = self._versioning.withdraw(effect, config.router, config.subjects)
                self._tasks.create_task(work)
        await self._carrier.carry(effects)

    async def _abandon(self) -> None:
        """End every flow that is left: its user hears of it, its engines free its pages. Those that
        wait go first, so that none begins in the room of another."""
        now = self.clock()
        flows = sorted(self.core.flows.values(), key=lambda flow: not flow.is_waiting)
        effects = [e for flow in flows for e in self.core.handle(Withdrawn(flow.id), now)]
        await self._carrier.carry(effects)
        sends = [self._dispatch.deliver(e) for e in effects if isinstance(e, Send)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience.accept_within_s):
                await asyncio.gather(*sends, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        failure = await self._dispatch.deliver(send)
        if failure is not None:
            await self._feed(failure)


LONG_TEXT = 4096
"""Characters from which tokenising is worth a thread of its own."""


async def _admit_off_loop(request: GenerateRequest, box: Mailbox, desk: Desk) -> Intake:
    work = partial(admit, request, box, desk.tokenizer, desk.limits, secrets.randbits(62))
    size = sum(len(m.content) for m in request.messages or ()) + len(request.prompt or ())
    return await asyncio.to_thread(work) if size > LONG_TEXT else work()
