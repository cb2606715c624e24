"""Whom the gateway lets in, and how long it waits for what they send."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest

from tests.system.fleet import fake_model, fleet
from tests.system.gateway import client, gateway


async def test_without_a_key_only_health_is_told() -> None:
    async with fleet(fake_model()) as system, gateway(system, "secret") as host:
        async with client(host, "wrong") as ai:
            with pytest.raises(openai.AuthenticationError, match="API key"):
                await ai.models.list()
        async with client(host, "secret") as ai:
            assert [m.id async for m in ai.models.list()] == ["fake"]
        async with aiohttp.ClientSession() as session:
            assert (await session.get(f"{host.url}/health")).status == 200
            refused = await session.get(f"{host.url}/metrics")
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    async with fleet(fake_model()) as system, gateway(system, body_s=0.05) as host:
        at = urlsplit(host.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode() + b'{"model"')
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"}}")
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 408 ")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "request_timeout"
    assert "0.05 s" in error["message"]


async def test_nonsense_in_a_header_or_a_path_is_the_askers_fault() -> None:
    async with fleet(fake_model()) as system, gateway(system, "secret") as host:
        key = b"Authorization: Bearer secret"

        statuses = [
            await status(host.url, b"/v1/models", b"Authorization: Bearer \xff"),
            await status(host.url, b"/live/page/" + b"a" * 300 + b".js"),
            await status(host.url, b"/live/strategies/disaggregated@" + b"9" * 5000, key),
        ]

        assert statuses == [401, 404, 404]


async def status(url: str, path: bytes, *headers: bytes) -> int:
    """Of a request as no client would make it."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = (b"GET " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", *headers)
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(said.split()[1])
