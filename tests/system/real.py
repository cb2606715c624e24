"""A fleet as users run it: nats-server, UCX, one process per actor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.children import Child
from actors.client import Client
from actors.settings import Settings, from_environment
from actors.supervisor import FleetOptions, LocalFleet, local_fleet
from bus.codec import decode
from bus.fleet import Role
from bus.interface import Message
from bus.messages import Beat
from bus.nats import NatsBus
from bus.public import Delta, Done, GenerateRequest
from bus.subjects import Subjects


@dataclass
class Real:
    fleet: LocalFleet
    bus: NatsBus
    client: Client
    model: str
    beats: dict[str, Beat]

    def child(self, name: str) -> Child:
        return next(c for c in self.fleet.engines if c.name == name)

    async def ask(self, request: GenerateRequest) -> tuple[list[int], Done]:
        tokens: list[int] = []
        async for message in self.client.generate(self.model, request):
            if isinstance(message, Delta):
                assert message.offset == len(tokens)
                tokens += message.tokens
            elif isinstance(message, Done):
                return tokens, message
        raise AssertionError("the answer had no end")

    async def no_page_held(self, *but: str) -> None:
        """Returns when every engine but ``but`` says, in beats from now on, that its pages are all
        free or merely cached, and that it has nothing to do."""
        self.beats.clear()
        names = {c.name for c in self.fleet.engines} - set(but)
        async with asyncio.timeout(20):
            while not all(n in self.beats and _idle(self.beats[n]) for n in names):  # noqa: ASYNC110 - beats come by themselves
                await asyncio.sleep(0.05)

    async def stopped_cleanly(self, *but: str) -> None:
        """Stop the engines: each checks its pages at its end, and fails where they are wrong."""
        for child in self.fleet.engines:
            if child.name not in but:
                await child.stop()
                assert child.process.returncode == 0, f"{child.name} did not end well"


def _idle(beat: Beat) -> bool:
    return beat.load == 0 and beat.free_pages == beat.total_pages


@asynccontextmanager
async def real_fleet(
    model: str | None,
    engines: tuple[tuple[str, Role], ...],
    folder: Path,
    kv_mib: int = 64,
    http_port: int | None = None,
) -> AsyncIterator[Real]:
    arguments = ("--kv-memory", f"{kv_mib}MiB")
    options = FleetOptions(engines, model=model, engine_arguments=arguments, http_port=http_port)
    async with (
        local_fleet(settings(folder), options) as up,
        NatsBus(up.url, name="test") as bus,
        Client(bus) as client,
    ):
        beats: dict[str, Beat] = {}

        async def on_beat(message: Message) -> None:
            beat = decode(message.payload, Beat)
            beats[beat.engine] = beat

        await bus.subscribe(Subjects().every_beat, on_beat)
        real = Real(up, bus, client, "", beats)
        await real.no_page_held()
        real.model = next(iter(beats.values())).model
        yield real


def settings(folder: Path) -> Settings:
    """As on a machine of its own: nothing configured, state in ``folder``."""
    given = from_environment()
    return Settings(
        nats_url=None,
        namespace="ms",
        state_dir=folder / "state",
        cache_dir=given.cache_dir,
        otlp_endpoint=None,
        otlp_protocol="http/protobuf",
        libucp=given.libucp,
        fleet_key=None,
        nats_server=given.nats_server,
    )
