"""Keeps a `Scene` up to date for as long as somebody looks at it, and asks nobody otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, Self

from bus.codec import Undecodable, decode, encode
from bus.interface import Bus, BusError, Message
from bus.messages import Beat
from bus.moves import RENEW_S, Moves, Watching
from bus.subjects import Subjects

from ..clock import Clock
from ..lookout import Looked, Unseen
from .scene import Change, Scene, Whole

logger = logging.getLogger("microserve.live")

TICK_S: Final = 0.25
BEHIND: Final = 8
"""Changes that a viewer may be behind; who is further gets the whole scene instead."""
LOOK_WITHIN_S: Final = 1.0


class Viewer:
    """One who looks: iterate over what he is to be told. Never ends by itself."""

    def __init__(self, scene: Scene, clock: Clock) -> None:
        self._scene, self._clock = scene, clock
        self._changes: asyncio.Queue[Change] = asyncio.Queue(BEHIND)
        self._needs_all = True

    def tell(self, change: Change) -> None:
        try:
            self._changes.put_nowait(change)
        except asyncio.QueueFull:
            self.begin_again()

    def begin_again(self) -> None:
        """Next, or after the change that is waited for now, comes the whole scene."""
        self._needs_all = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Whole | Change:
        if self._needs_all:
            self._needs_all = False
            while not self._changes.empty():
                self._changes.get_nowait()
            return self._scene.whole(self._clock())
        return await self._changes.get()


class Live:
    """`run` it beside whoever calls `look`. While nobody does, it subscribes to nothing and
    publishes nothing."""

    def __init__(self, bus: Bus, subjects: Subjects, clock: Clock) -> None:
        self._bus, self._subjects, self._clock = bus, subjects, clock
        self.scene = Scene()
        self._viewers: list[Viewer] = []
        self._wanted = asyncio.Event()
        self._missed = True

    @contextmanager
    def look(self) -> Iterator[Viewer]:
        """A viewer, who holds the lease until the block ends."""
        viewer = Viewer(self.scene, self._clock)
        self._viewers.append(viewer)
        self._wanted.set()
        try:
            yield viewer
        finally:
            self._viewers.remove(viewer)
            if not self._viewers:
                self._wanted.clear()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with self._listening():
                    await self._tell()
            except BusError as error:  # a broker that is away comes back; so do we
                logger.warning("the fleet cannot be watched now: %s", error)
                await asyncio.sleep(TICK_S)

    async def flow(self, flow: str) -> Looked | None:
        """All that a router knows of a flow; None where no router has it or answers in time."""
        router = self.scene.router_of(flow)
        routers = (router,) if router else self.scene.routers
        for found in await asyncio.gather(*(self._ask(r, flow) for r in routers)):
            if isinstance(found, Looked):
                return found
        return None

    # --- inside ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        self._missed = True
        beats = await self._bus.subscribe(self._subjects.every_beat, self._on_beat)
        moves = await self._bus.subscribe(self._subjects.every_moves, self._on_moves)
        try:
            yield
        finally:
            await moves.unsubscribe()
            await beats.unsubscribe()
            self.scene.clear()
            for viewer in self._viewers:  # who came meanwhile, and saw what is forgotten now
                viewer.begin_again()

    async def _tell(self) -> None:
        renewed_s = float("-inf")
        while self._viewers:
            now = self._clock()
            if self._missed or now - renewed_s >= RENEW_S:
                renewed_s = now
                await self._renew()
            change = self.scene.change(now)
            for viewer in self._viewers:
                viewer.tell(change)
            await asyncio.sleep(TICK_S)

    async def _renew(self) -> None:
        missed, self._missed = self._missed, False
        with contextlib.suppress(BusError):  # a broker that is away comes back; so do we
            await self._bus.publish(self._subjects.watch, encode(Watching(missed)))

    async def _ask(self, router: str, flow: str) -> Looked | Unseen:
        try:
            subject = self._subjects.look(router)
            reply = await self._bus.request(subject, flow.encode(), timeout_s=LOOK_WITHIN_S)
            found: Looked | Unseen = decode(reply.payload, Looked | Unseen)
        except (BusError, Undecodable) as error:
            logger.info("%s does not tell of flow %s: %s", router, flow, error)
            return Unseen()
        return found

    async def _on_beat(self, message: Message) -> None:
        with contextlib.suppress(Undecodable):
            self.scene.heard(decode(message.payload, Beat), self._clock())

    async def _on_moves(self, message: Message) -> None:
        with contextlib.suppress(Undecodable):
            if not self.scene.moved(decode(message.payload, Moves), self._clock()):
                self._missed = True
