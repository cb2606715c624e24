"""What one would build otherwise: FastAPI on uvicorn, an HTTP response of events per answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from bus.codec import encode_json
from bus.public import Delta

from .conversation import Conversation, Ready, converse
from .streams import Address, Emit, Pace, delta_at

AHEAD: Final = 1
"""Tokens that a response may be behind the engine before the engine waits for it."""
STOP_WITHIN_S: Final = 1


class Streams:
    """One bounded queue per response, filled step by step from an engine on a thread of its own."""

    def __init__(self) -> None:
        self._queues: dict[int, asyncio.Queue[Delta]] = {}
        self._offset = 0

    async def read(self, number: int) -> AsyncIterator[bytes]:
        queue = self._queues[number] = asyncio.Queue(AHEAD)
        yield b": accepted\n\n"
        while True:
            yield b"data: " + encode_json(await queue.get()) + b"\n\n"

    async def emit(self, emit: Emit, device: ThreadPoolExecutor) -> None:
        loop, pace = asyncio.get_running_loop(), Pace(emit.interval_s)
        for _ in range(emit.num_steps):
            step = await loop.run_in_executor(device, self._step, pace)
            for queue, delta in zip(self._queues.values(), step, strict=True):
                await queue.put(delta)

    def _step(self, pace: Pace) -> list[Delta]:
        pace.wait()
        offset, self._offset = self._offset, self._offset + 1
        return [delta_at(f"{number:032x}", number, offset) for number in self._queues]


def application(streams: Streams) -> FastAPI:
    app = FastAPI()

    @app.get("/generate/{number}")
    async def generate(number: int) -> StreamingResponse:
        return StreamingResponse(streams.read(number), media_type="text/event-stream")

    return app


async def main(conversation: Conversation) -> None:
    await conversation.hear(Ready)
    streams = Streams()
    config = uvicorn.Config(
        application(streams),
        log_level="critical",
        lifespan="off",
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    server = uvicorn.Server(config)
    config.load()
    address = ("127.0.0.1", 0)
    with socket.create_server(address) as listening, ThreadPoolExecutor(1) as device:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listening]))
            http = config.http_protocol_class.__name__
            conversation.say(Address(f"http://127.0.0.1:{listening.getsockname()[1]}", http))
            async for emit in conversation.questions(Emit):
                conversation.say(Ready())
                await streams.emit(emit, device)
            server.should_exit = True


if __name__ == "__main__":
    converse(main)
