"""What operators want of a router: that a flow goes on elsewhere, or to see what goes on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from bus.codec import Undecodable, decode, encode, encode_json
from bus.interface import Bus, Message, Subscription
from bus.messages import Accepted, Refused
from bus.moves import Watching

from .clock import Clock
from .inputs import RouterInput, Wished
from .routing import RouterCore

logger = logging.getLogger("microserve.router")

ENOUGH_OF_AN_ID = 6
"""Hexadecimal digits: other routers have flows, too, that may begin alike."""


class Wishes:
    """For one router. ``feed`` hands an event to its core."""

    def __init__(
        self,
        bus: Bus,
        core: RouterCore,
        feed: Callable[[RouterInput], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._bus, self._core, self._feed, self._clock = bus, core, feed, clock

    async def listen(self) -> list[Subscription]:
        subjects, router = self._core.config.subjects, self._core.config.router
        return [
            await self._bus.subscribe(subjects.every_move, self._on_move),
            await self._bus.subscribe(subjects.watch, self._on_watch),
            await self._bus.subscribe(subjects.look(router), self._on_look),
        ]

    async def _on_move(self, message: Message) -> None:
        """Of all routers the one answers that has the flow."""
        begin, engine = message.subject.split(".")[-2], message.payload.decode(errors="replace")
        flow = self._flow_of(begin)
        if flow is None:
            return
        refused = self._objection(flow, engine)
        if refused is None:
            await self._feed(Wished(flow, engine))
        await self._reply(message, encode_json(refused or Accepted()))

    def _objection(self, flow: str, engine: str) -> Refused | None:
        known = self._core.engines_of(self._core.flows[flow])
        if engine not in known:
            why = f"no engine {engine[:80]!r} for this flow; there are {', '.join(known)}"
            return Refused("Move", "no_engine", why)
        if self._core.flows[flow].is_waiting:
            return Refused("Move", "busy", "it waits for room, and is at no engine yet: ask later")
        return None

    def _flow_of(self, begin: str) -> str | None:
        """The flow whose id begins so, as people write it; None where it is not one."""
        flows = self._core.flows
        if begin in flows:
            return begin
        found = [flow for flow in flows if flow.startswith(begin)]
        return found[0] if len(found) == 1 and len(begin) >= ENOUGH_OF_AN_ID else None

    async def _on_watch(self, message: Message) -> None:
        try:
            watching = decode(message.payload, Watching)
        except Undecodable as error:
            logger.warning("unreadable message on %s: %s", message.subject, error)
            return
        await self._feed(watching)

    async def _on_look(self, message: Message) -> None:
        """The payload is the flow's id."""
        looked = self._core.look(message.payload.decode(errors="replace"), self._clock())
        await self._reply(message, encode(looked))

    async def _reply(self, message: Message, payload: bytes) -> None:
        if message.reply and not self._core.config.subjects.is_inside(message.reply):
            await self._bus.publish(message.reply, payload)
