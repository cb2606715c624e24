"""Makes an actor visible in ``nats micro ls``: answers the broker's service discovery.

The protocol (NATS ADR-32) asks on ``$SRV.<verb>``, ``$SRV.<verb>.<name>`` and
``$SRV.<verb>.<name>.<id>``; every service answers with one JSON object. Our actors have no
"endpoints" in its sense: what they listen to is `bus.subjects`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, json

from .interface import Bus, BusError, Handler, Message, Service
from .subjects import TOKEN

TIME_HEADER: Final = "Microserve-Time"
"""Of an answer: unix seconds on the clock of whoever answers."""

_SEMANTIC_VERSION: Final = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


class BadService(BusError):
    """Service discovery would not list this."""


class Ping(Struct, frozen=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    type: str = "io.nats.micro.v1.ping_response"


class Info(Struct, frozen=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    description: str
    endpoints: tuple[str, ...] = ()
    type: str = "io.nats.micro.v1.info_response"


class Stats(Struct, frozen=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    started: str
    endpoints: tuple[str, ...] = ()
    type: str = "io.nats.micro.v1.stats_response"


async def announce(bus: Bus, service: Service) -> None:
    """Answer for ``service`` on ``bus`` until it is closed.

    Raises:
        BadService: the name is not one subject token, or the version not a semantic one.
    """
    _check(service)
    instance = bus.inbox().rpartition(".")[2]
    for subject, answer in _answers(service, instance, datetime.now(UTC)):
        await bus.subscribe(subject, _responder(bus, answer))


def _check(service: Service) -> None:
    if not TOKEN.fullmatch(service.name):
        raise BadService(f"service name {service.name!r}: use letters, digits, '_' or '-'")
    if not _SEMANTIC_VERSION.fullmatch(service.version):
        raise BadService(f"service version {service.version!r}: use one like 1.2.3 or 1.2.3-rc.1")


def _answers(service: Service, instance: str, started: datetime) -> Iterator[tuple[str, bytes]]:
    """Every subject to answer on, with the answer."""
    who = (service.name, instance, service.version, service.metadata)
    answers = {
        "PING": Ping(*who),
        "INFO": Info(*who, description=service.description),
        "STATS": Stats(*who, started=started.strftime("%Y-%m-%dT%H:%M:%S.%fZ")),
    }
    for verb, answer in answers.items():
        for whom in ("", f".{service.name}", f".{service.name}.{instance}"):
            yield f"$SRV.{verb}{whom}", json.encode(answer)


def _responder(bus: Bus, answer: bytes) -> Handler:
    async def respond(message: Message) -> None:
        if message.reply:
            now = {TIME_HEADER: f"{time.time():.6f}"}
            await bus.publish(message.reply, answer, headers=now)

    return respond
