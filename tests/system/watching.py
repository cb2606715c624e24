"""Somebody who reads a gateway's stream of what is to be seen, as the live page does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

WITHIN_S = 30.0


class Watcher:
    """What was told so far. Keeps no more of it than the page does."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.engines: dict[str, dict[str, Any]] = {}
        self.flows: dict[str, list[Any]] = {}
        self.states: dict[str, list[str]] = {}
        """That each flow was seen in, in order."""
        self.ended: dict[str, list[Any]] = {}
        self.passed: dict[tuple[str, ...], int] = {}
        self._columns: list[str] = []

    async def until(self, seen: Callable[[Watcher], bool]) -> None:
        """Read on until this is so."""
        async with asyncio.timeout(WITHIN_S):
            while not seen(self):
                self._heed(await self._frame())

    async def _frame(self) -> dict[str, Any]:
        while True:
            line = await self._response.content.readline()
            assert line, "the stream has ended"
            if line.startswith(b"data: "):
                return dict(json.loads(line[6:]))

    def _heed(self, told: dict[str, Any]) -> None:
        self._columns = told.get("columns", self._columns)
        for row in told["engines"]:
            self.engines[row[0]] = dict(zip(self._columns, row, strict=True))
        for flow in told["flows"]:
            self.flows[flow[0]] = flow
            self.states.setdefault(flow[0], []).append(flow[2])
        for ending in told.get("ended", ()):
            self.ended[ending[0]] = ending
            self.flows.pop(ending[0], None)
        for *edge, count in told.get("passed", ()):
            self.passed[tuple(edge)] = self.passed.get(tuple(edge), 0) + count


@asynccontextmanager
async def watching(url: str, key: str = "") -> AsyncIterator[Watcher]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(url, headers=headers, timeout=timeout, read_bufsize=1 << 20) as http,
        http.get("/live/events") as response,
    ):
        assert response.status == 200
        yield Watcher(response)


async def fetched(url: str, path: str, key: str = "") -> tuple[int, Any]:
    """Status and JSON of an answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(url, headers=headers) as http, http.get(path) as response:
        return response.status, await response.json()
