"""What one would build otherwise: FastAPI on uvicorn, an HTTP response of events per answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from msgspec import Struct

from bus.codec import encode_json
from bus.public import Delta

from .conversation import Conversation, Ready, converse
from .streams import Emit, delta_at

AHEAD: Final = 1
"""Tokens that a stream may be behind the engine before the engine waits for it."""
STOP_WITHIN_S: Final = 1


class Nothing(Struct, frozen=True):
    """There is nothing to configure."""


class Address(Struct, frozen=True):
    url: str
    http: str
    """Which HTTP implementation uvicorn runs on."""


class Streams:
    """One bounded queue per response, filled step by step."""

    def __init__(self) -> None:
        self._queues: dict[int, asyncio.Queue[Delta]] = {}
        self._offset = 0

    async def read(self, number: int) -> AsyncIterator[bytes]:
        queue = self._queues[number] = asyncio.Queue(AHEAD)
        yield b": accepted\n\n"
        while True:
            yield b"data: " + encode_json(await queue.get()) + b"\n\n"

    async def emit(self, emit: Emit) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        flows = {number: f"{number:032x}" for number in self._queues}
        for _ in range(emit.num_steps):
            due_s += emit.interval_s
            if emit.interval_s:
                await asyncio.sleep(max(0.0, due_s - loop.time()))
            for number, queue in self._queues.items():
                await queue.put(delta_at(flows[number], number, self._offset))
            self._offset += 1


def application(streams: Streams) -> FastAPI:
    app = FastAPI()

    @app.get("/generate/{number}")
    async def generate(number: int) -> StreamingResponse:
        return StreamingResponse(streams.read(number), media_type="text/event-stream")

    return app


async def main(conversation: Conversation) -> None:
    await conversation.hear(Nothing)
    streams = Streams()
    config = uvicorn.Config(
        application(streams),
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    server = uvicorn.Server(config)
    config.load()
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listening:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listening]))
            http = config.http_protocol_class.__name__
            conversation.say(Address(f"http://127.0.0.1:{listening.getsockname()[1]}", http))
            async for emit in conversation.questions(Emit):
                conversation.say(Ready())
                await streams.emit(emit)
            server.should_exit = True


if __name__ == "__main__":
    converse(main)
