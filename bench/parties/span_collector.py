"""A collector that takes every export of spans and forgets it."""

from __future__ import annotations

from aiohttp import web

from .conversation import Conversation, converse


async def main(conversation: Conversation) -> None:
    await conversation.hear(object)
    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/v1/traces", _taken)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    conversation.say(f"http://127.0.0.1:{runner.addresses[0][1]}")
    await conversation.ended()
    await runner.cleanup()


async def _taken(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=b"", content_type="application/x-protobuf")


if __name__ == "__main__":
    converse(main)
