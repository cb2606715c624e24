"""The gateway: an actor that speaks HTTP on one side and the fleet's subjects on the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import web
from msgspec import Struct

from bus.interface import Bus
from bus.subjects import Subjects
from observability import prometheus
from observability.metrics import Point
from observability.sampling import Sampling
from observability.sink import NullSink

from ..actor_metrics import bus_points
from ..client import Client
from ..clock import Clock
from ..live.looking import Live
from ..roster import BEAT_INTERVAL_S
from ..router import Desk
from .commanding import IDLE_S, Commander
from .errors import HttpError
from .keys import Keys
from .live import ASSETS, PAGE, LivePage, Sources
from .metrics import Metrics
from .microserving import Microserving
from .openai import OpenAI
from .pieces import Spell
from .plain import json_answer
from .tracing import Tracer
from .watching import Watcher

logger = logging.getLogger("microserve.gateway")

MAX_BODY_BYTES = 16 << 20
CHALLENGE = {"WWW-Authenticate": "Bearer"}
OPEN_PATHS = ("/health", PAGE)
"""Need no key: they tell nothing of anybody's requests."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class GatewayConfig(Struct, frozen=True):
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    subjects: Subjects = Subjects()
    keys: tuple[str, ...] = ()
    """Whoever has one may use the gateway; none lets everybody in."""
    operator_keys: tuple[str, ...] = ()
    """Whoever has one may do so, too, and read on the live page what others ask and are told."""
    body_s: float = 60.0
    """The whole body of a request has to come within so long."""
    idle_s: float = IDLE_S
    """After so long without a call, a flow of the paper's interface is over."""


class GatewayHost:
    """Runs until cancelled. Requests that are being answered then are cancelled in the fleet."""

    def __init__(
        self,
        bus: Bus,
        config: GatewayConfig,
        desks: Mapping[str, Desk],
        spells: Mapping[str, Spell],
        clock: Clock,
        sources: Sources = Sources(),  # noqa: B008 - frozen
        tracer: Tracer | None = None,
    ) -> None:
        """``desks`` and ``spells`` by model: what the paper's interface, log-probabilities and the
        live page need of a tokenizer."""
        self.bus, self.config = bus, config
        self._keys = Keys((*config.keys, *config.operator_keys))
        self._client = Client(bus, config.subjects)
        self._watcher = Watcher(bus, config.subjects, clock)
        self._metrics = Metrics()
        tracer = tracer or Tracer(NullSink(), Sampling())
        self._openai = OpenAI(self._client, self._watcher, self._metrics, spells, clock, tracer)
        self._commander = Commander(bus, config.subjects, self._watcher, config.idle_s)
        self._paper = Microserving(self._commander, self._watcher, desks, spells)
        self._live = Live(bus, config.subjects, clock)
        self._page = LivePage(self._live, sources, spells, _readers(config))
        self.ready = asyncio.Event()
        """Set when requests are taken, at `url`."""
        self.url = ""

    async def run(self) -> None:
        async with self._client:
            await self._watcher.start()
            await self._commander.start()
            await asyncio.sleep(1.2 * BEAT_INTERVAL_S)
            runner = web.AppRunner(
                self._app(), handler_cancellation=True, access_log=None, shutdown_timeout=1.0
            )
            await runner.setup()
            try:
                site = web.TCPSite(runner, self.config.host, self.config.port)
                await site.start()
                host, port = runner.addresses[0][:2]
                self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                self.ready.set()
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._live.run())
                    tasks.create_task(self._commander.sweep())
            finally:
                await runner.cleanup()
                await self._commander.stop()

    def points(self) -> list[Point]:
        """What it measures, now."""
        return [*self._metrics.points(self._watcher.beats()), *bus_points(self.bus.statistics())]

    def _app(self) -> web.Application:
        app = web.Application(
            middlewares=[_in_openais_shape, self._for_keyholders, self._whole],
            client_max_size=MAX_BODY_BYTES,
        )
        for part in (self._openai, self._paper, self._page):
            app.add_routes(part.routes())
        app.add_routes(self._own_routes())
        return app

    def _own_routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/health", self._health), web.get("/metrics", self._on_metrics)]

    async def _health(self, request: web.Request) -> web.Response:
        """Well where a request has a chance: connected, and an engine is alive."""
        engines = len(self._watcher.beats())
        well = engines > 0
        body = {"status": "ok" if well else "no engine", "engines": engines}
        return json_answer(body, 200 if well else 503)

    async def _on_metrics(self, request: web.Request) -> web.Response:
        headers = {"Content-Type": prometheus.CONTENT_TYPE}
        return web.Response(body=prometheus.text(self.points()).encode(), headers=headers)

    @web.middleware
    async def _for_keyholders(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        is_open = request.path in OPEN_PATHS or request.path.startswith(ASSETS)
        if not is_open and not self._keys.admits(request.headers.get("Authorization", "")):
            why = "give a valid API key, as 'Authorization: Bearer KEY'"
            raise HttpError(401, why, "invalid_api_key", headers=CHALLENGE)
        return await handler(request)

    @web.middleware
    async def _whole(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handlers find the body read. Whoever sends it a byte a minute has us wait no longer than
        others."""
        try:
            async with asyncio.timeout(self.config.body_s):
                await request.read()
        except TimeoutError:
            why = f"the body of the request did not arrive within {self.config.body_s:g} s"
            raise HttpError(408, why, "request_timeout") from None
        return await handler(request)


def _readers(config: GatewayConfig) -> Callable[[str], bool]:
    """Who may read what others ask and are told, by the header `Authorization`. Users' keys are
    many people's: where there are such, only an operator's will do."""
    operators = Keys(config.operator_keys)
    return lambda given: not config.keys or (bool(operators) and operators.admits(given))


@web.middleware
async def _in_openais_shape(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HttpError as error:
        failure = error
    except web.HTTPException as error:
        failure = HttpError(error.status, f"{request.method} {request.path}: {error.reason}")
    except ConnectionError:
        raise
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        failure = HttpError(500, "a fault of the gateway: its log says more", "internal")
    return json_answer(failure.body, failure.status, failure.headers)
