"""`microserve doctor` on a running fleet: who is there, what fits, whose clock is wrong."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

import msgspec

from bus.codec import Undecodable, decode
from bus.compatibility import differences
from bus.discovery import TIME_HEADER, Ping
from bus.interface import Bus, BusError, Message
from bus.messages import Beat
from bus.subjects import Subjects

from .clocks import Asked, compared
from .diagnosis import Finding, fault, note, ok
from .roster import LOST_AFTER_S

PATIENCE_S = 2.0


async def look_at_fleet(bus: Bus, subjects: Subjects) -> list[Finding]:
    """Who is there: engines by their beats, the others by service discovery; and what time it is
    with each of them, the broker included."""
    beats: dict[str, Beat] = {}
    actors: list[Ping] = []
    clocks: list[Asked] = []

    async def on_beat(message: Message) -> None:
        try:
            beat = decode(message.payload, Beat)
        except Undecodable:
            return
        beats[beat.engine] = beat

    async def on_ping(message: Message) -> None:
        if not message.payload:
            return
        ping = msgspec.json.decode(message.payload, type=Ping)
        actors.append(ping)
        if (told := message.headers.get(TIME_HEADER)) is not None:
            clocks.append(Asked(ping.metadata.get("id", ping.id), sent_s, time.time(), float(told)))

    inbox = bus.inbox()
    await bus.subscribe(inbox, on_ping)
    await bus.subscribe(subjects.every_beat, on_beat)
    sent_s = time.time()
    await bus.publish("$SRV.PING", b"", reply=inbox)
    await asyncio.sleep(LOST_AFTER_S)
    routers = sorted(a.metadata.get("id", a.id) for a in actors if a.name == "microserve-router")
    clocks += await _broker_clock(bus)
    return [_routers(routers), *_engines(beats), *compared(clocks)]


async def _broker_clock(bus: Bus) -> list[Asked]:
    """JetStream tells its time with what it tells of a stream; where there is none, nobody does."""
    try:
        named = await bus.request("$JS.API.STREAM.NAMES", b"", timeout_s=PATIENCE_S)
        streams = msgspec.json.decode(named.payload).get("streams") or []
        if not streams:
            return []
        sent_s = time.time()
        told = await bus.request(f"$JS.API.STREAM.INFO.{streams[0]}", b"", timeout_s=PATIENCE_S)
        at = datetime.fromisoformat(msgspec.json.decode(told.payload)["ts"])
    except (BusError, KeyError, ValueError, msgspec.DecodeError):
        return []
    return [Asked("the broker", sent_s, time.time(), at.timestamp())]


def _routers(routers: list[str]) -> Finding:
    if routers:
        return ok("routers", ", ".join(routers))
    return note("routers", "none answers", "Nobody takes requests: start one, microserve router")


def _engines(beats: dict[str, Beat]) -> Iterator[Finding]:
    if not beats:
        yield note("engines", "none is heard", "Start some: microserve engine, or microserve up")
        return
    for beat in sorted(beats.values(), key=lambda beat: beat.engine):
        pages = f"{beat.free_pages} of {beat.total_pages} pages free"
        yield ok("engines", f"{beat.engine} ({beat.role}): {beat.model}, {pages}")
    yield from _strangers(beats)


def _strangers(beats: dict[str, Beat]) -> Iterator[Finding]:
    """Engines of one model that cannot exchange KV."""
    models: dict[str, dict[str, list[Beat]]] = defaultdict(lambda: defaultdict(list))
    for beat in sorted(beats.values(), key=lambda beat: beat.engine):
        models[beat.model][beat.compatibility].append(beat)
    for model, kinds in models.items():
        if len(kinds) > 1:
            groups = " | ".join(", ".join(b.engine for b in kind) for kind in kinds.values())
            why = _why_apart([kind[0] for kind in kinds.values()])
            yield fault(
                "engines",
                f"those of {model} cannot all exchange KV: {groups}{why}",
                "Start them with the same model files, --dtype, --weights and libucp.",
            )


def _why_apart(one_of_each: list[Beat]) -> str:
    """In words, where they say what their KV is like."""
    first, *others = one_of_each
    found = [
        why
        for other in others
        if first.kv and other.kv
        for why in differences(first.engine, first.kv, other.engine, other.kv)
    ]
    return ". " + "; ".join(found) if found else ""
