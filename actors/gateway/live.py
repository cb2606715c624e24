"""The live page, and what it reads: one stream of changes, and single flows and strategies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from aiohttp import web
from msgspec import Struct

from bus.subjects import TOKEN

from ..live.diagrams import NotDrawn, Strategies, read_ref
from ..live.flow_view import Spell, flow_view
from ..live.looking import Live
from ..live.traces import stored_spans
from ..version_store import UnknownVersion, VersionStore
from . import sse
from .errors import HttpError
from .plain import json_answer

PAGE: Final = "/live"
ASSETS: Final = "/live/page/"
"""These two need no key: they are the same for everybody, and tell of nobody."""
TYPES: Final = {".css": "text/css", ".html": "text/html", ".js": "text/javascript",
                ".svg": "image/svg+xml"}  # fmt: skip
HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Nothing is loaded from outside, and no text of a user can become a script."""


class Sources(Struct, frozen=True):
    """Where the page finds what is not told on the bus."""

    traces: Path | None = None
    """This machine's store of traces; None where spans go to a collector."""
    versions: VersionStore | None = None


class LivePage:
    """``may_read`` says by a header `Authorization` who may see what was asked and answered; others
    see how it went."""

    def __init__(
        self,
        live: Live,
        sources: Sources,
        spells: Mapping[str, Spell],
        may_read: Callable[[str], bool],
    ) -> None:
        self._live, self._traces = live, sources.traces
        self._strategies = Strategies(sources.versions)
        self._spells, self._may_read = spells, may_read

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PAGE, self.page),
            web.get(ASSETS + "{name}", self.asset),
            web.get("/live/events", self.events),
            web.get("/live/flows/{flow}", self.flow),
            web.get("/live/strategies/{ref}", self.strategy),
            web.get("/live/diagrams/{ref}", self.diagram),
        ]

    async def page(self, request: web.Request) -> web.Response:
        return _asset("index.html")

    async def asset(self, request: web.Request) -> web.Response:
        return _asset(request.match_info["name"])

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The whole scene, and then every change of it, until the page goes away."""
        response = web.StreamResponse(headers=sse.HEADERS)
        await response.prepare(request)
        with suppress(ConnectionError), self._live.look() as viewer:
            async for told in viewer:
                await response.write(sse.frame(told))
        return response

    async def flow(self, request: web.Request) -> web.Response:
        flow = request.match_info["flow"]
        if not TOKEN.fullmatch(flow):
            raise HttpError(404, f"{flow[:80]!r} is no flow", "no_such_flow")
        looked = await self._live.flow(flow)
        stored = await asyncio.to_thread(stored_spans, self._traces, flow)
        may_read = self._may_read(request.headers.get("Authorization", ""))
        spell = self._spell(looked.model) if looked and may_read else None
        view = flow_view(flow, looked, stored, spell)
        if view is None:
            why = "no router has it any more, and this machine has no trace of it"
            raise HttpError(404, f"flow {flow}: {why}", "no_such_flow")
        return json_answer(view)

    async def strategy(self, request: web.Request) -> web.Response:
        return json_answer(await _found(self._strategies.view, request))

    async def diagram(self, request: web.Request) -> web.Response:
        return json_answer(await _found(self._strategies.diagram, request))

    def _spell(self, model: str) -> Spell:
        """Of a model whose tokenizer is not here, the numbers of its tokens."""
        return self._spells.get(model, lambda token: f"[{token}]".encode())


async def _found(find: Callable[..., Awaitable[Struct]], request: web.Request) -> Struct:
    try:
        return await find(read_ref(request.match_info["ref"]))
    except UnknownVersion as error:
        raise HttpError(404, str(error), "unknown_orchestration") from None
    except NotDrawn as error:
        raise HttpError(422, str(error), "not_drawn") from None


def _asset(name: str) -> web.Response:
    file = next(
        (f for f in files("actors.live").joinpath("page").iterdir() if f.name == name), None
    )
    kind = TYPES.get(Path(name).suffix)
    if file is None or kind is None:
        raise HttpError(404, f"the page has no {name[:80]!r}", "not_found")
    body = file.read_bytes()
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=HEADERS)
