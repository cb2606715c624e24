"""A hundred engines that only say what engines say, and a thousand users who always ask again.

Nothing is computed and no KV moves: commands end after times like those of real ones, so that a
real router, a real gateway and a real page have as much to follow as with a large fleet.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from bus.codec import decode, encode
from bus.fleet import Role
from bus.interface import Message
from bus.messages import (
    Accepted,
    EngineEvent,
    Finished,
    Followed,
    Order,
    Prepared,
    Released,
    Report,
    Sent,
    Started,
    Usage,
)
from bus.nats import NatsBus
from bus.public import GenerateRequest
from bus.tokens import Tokens

from .conversation import Conversation, Ready, converse
from .fleet import EPOCH, MODEL, ROUTER, SUBJECTS, beat

BEAT_S: Final = 0.5
PREPARE_S: Final = 0.02
SEND_S: Final = 0.3
ANSWER_S: Final = (2.5, 6.0)
TOKENS: Final = 32
ACCEPTED: Final = encode(Accepted())
STRATEGIES: Final = ("disaggregated", "disaggregated", "data_parallel", "resilient")


class Crowd(Struct, frozen=True):
    url: str
    num_engines: int
    num_flows: int
    """In flight, always."""


class Engines:
    def __init__(self, bus: NatsBus, crowd: Crowd) -> None:
        self._bus, self._chance = bus, random.Random(5)
        self._running: dict[str, int] = {}
        roles: tuple[Role, ...] = ("prefill", "decode", "decode")
        self._names: Mapping[str, Role] = {
            f"{roles[n % 3][0]}{n:02}": roles[n % 3] for n in range(crowd.num_engines)
        }
        self._made = dict.fromkeys(self._names, 0)
        self._asked = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        """Somebody asks something."""
        self._asked += 1
        request = GenerateRequest(
            prompt=tuple(range(64)), max_tokens=TOKENS, orchestration=STRATEGIES[self._asked % 4]
        )
        self._do(self._bus.publish(SUBJECTS.generate(MODEL), encode(request), reply="answers.all"))

    async def on_order(self, message: Message) -> None:
        order = decode(message.payload, Order)
        await self._bus.publish(message.reply, ACCEPTED)
        match type(order.command).__name__:
            case "PrepRecv":
                self._later(PREPARE_S, order, Prepared(b"grant", 0))
            case "RemoteSend":
                self._later(SEND_S, order, Sent(1 << 20, SEND_S, "memory"))
            case "StartGenerate":
                self._generate(order)
            case "Release":
                self._later(0.0, order, Released())

    async def beats(self) -> None:
        while True:
            for name, role in self._names.items():
                running = self._running.get(name, 0)
                told = replace(
                    beat(),
                    engine=name,
                    role=role,
                    load=running,
                    running=running,
                    slots=64,
                    decode_tokens=self._made[name],
                )
                await self._bus.publish(SUBJECTS.beat(name), encode(told))
            await asyncio.sleep(BEAT_S)

    def _generate(self, order: Order) -> None:
        engine, took_s = order.command.engine, self._chance.uniform(*ANSWER_S)
        self._running[engine] = self._running.get(engine, 0) + 1
        self._later(SEND_S + took_s / 9, order, Started(0), TOKENS // 4)
        self._later(SEND_S + took_s, order, Finished("length", Usage()), TOKENS)

    def _later(self, after_s: float, order: Order, event: EngineEvent, tokens: int = 0) -> None:
        asyncio.get_running_loop().call_later(after_s, self._tell, order, event, tokens)

    def _tell(self, order: Order, event: EngineEvent, num_tokens: int) -> None:
        engine = order.command.engine
        if num_tokens:
            more = (Followed(order.flow, 0, Tokens(range(num_tokens))),)
            self._do(self._bus.publish(SUBJECTS.tokens(ROUTER), encode(more)))
        report = Report(order.flow, order.attempt, engine, EPOCH, event)
        self._do(self._bus.publish(SUBJECTS.event(ROUTER), encode(report)))
        if isinstance(event, Finished):
            self._running[engine] -= 1
            self._made[engine] += TOKENS
            self.ask()

    def _do(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def main(conversation: Conversation) -> None:
    crowd = await conversation.hear(Crowd)
    async with NatsBus(crowd.url, name="crowd") as bus, asyncio.TaskGroup() as tasks:
        engines = Engines(bus, crowd)
        await bus.subscribe("ms.engine.*.*", engines.on_order)
        beats = tasks.create_task(engines.beats())
        conversation.say(Ready())
        async for _ in conversation.questions(str):  # the router is there: everybody asks
            for _ in range(crowd.num_flows):
                engines.ask()
            conversation.say(Ready())
        beats.cancel()


if __name__ == "__main__":
    converse(main)
