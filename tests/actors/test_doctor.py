"""`microserve doctor` on a sound machine, on a broken one, and beside engines that do not fit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest

from actors.diagnosis import Finding, fault, note, ok, show
from actors.doctor import Patient, examine
from actors.settings import Settings, from_environment
from bus.buckets import BucketConfig
from bus.codec import encode
from bus.compatibility import Compatibility
from bus.fleet import Role
from bus.interface import Service
from bus.jetstream import JetStreamBuckets
from bus.messages import Beat
from bus.nats import NatsBus
from bus.server import EmbeddedServer
from bus.transfers import PageLayout
from tests.engine.checkpoints import tiny_checkpoint


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A machine where nothing is configured."""
    return from_environment(
        {"MICROSERVE_STATE_DIR": str(tmp_path), "MICROSERVE_CACHE_DIR": str(tmp_path / "cache")}
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


def beat(engine: str, role: Role, dtype: str) -> bytes:
    layout = PageLayout(model="m", dtype=dtype, num_kv_heads=3, head_dim=64, version=1)
    kv = Compatibility(layout, 30, 16, protocol=2, transport="ucx 1.22.0")
    return encode(Beat(engine, 1, "m", role, 0, 5, 9, 16, 99, kv.kind(engine), kv=kv))


@asynccontextmanager
async def fleet(url: str, beats: Iterable[tuple[str, bytes]]) -> AsyncIterator[None]:
    """A router and engines as far as they are heard."""
    async with NatsBus(url) as bus:
        await bus.announce(Service("microserve-router", "1.0.0", metadata={"id": "r7"}))

        async def heartbeats() -> None:
            while True:
                for engine, payload in beats:
                    await bus.publish(f"ms.beat.{engine}", payload)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(heartbeats())
        try:
            yield
        finally:
            task.cancel()


async def findings(patient: Patient) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    async for finding in examine(patient):
        found.setdefault(finding.area, []).append(finding)
    return found


async def test_a_machine_without_a_fleet_is_healthy_and_told_how_to_start_one(
    settings: Settings, model: str
) -> None:
    found = await findings(Patient(settings, None, model))

    [broker] = found["broker"]
    assert (broker.state, broker.advice) == ("note", "Start one: microserve up")
    for area in ("nats-server", "UCX", "device", "model", "traces"):
        assert [f.state for f in found[area]] == ["ok"], found[area]


async def test_a_fleet_is_listed_and_engines_that_cannot_exchange_kv_are_named(
    settings: Settings, model: str
) -> None:
    beats = [("p0", beat("p0", "prefill", "float32")), ("d0", beat("d0", "decode", "int8"))]
    async with (
        EmbeddedServer() as server,
        fleet(server.url, beats),
        NatsBus(server.url) as bus,
    ):
        await JetStreamBuckets(bus).bucket(BucketConfig("anything"))
        found = await findings(Patient(settings, server.url, model))

    assert [f.state for f in found["broker"]] == ["ok", "ok"]
    assert found["JetStream"][0].state == "ok"
    assert found["routers"] == [ok("routers", "r7")]
    [clocks] = found["clocks"]
    assert clocks.state == "ok"
    assert clocks.what.endswith("ms of ours: r7, the broker")
    d0, p0, strangers = found["engines"]
    assert d0.what == "d0 (decode): m, 5 of 9 pages free"
    assert p0.what.startswith("p0 (prefill)")
    assert strangers.state == "fault"
    assert strangers.what == (
        "those of m cannot all exchange KV: d0 | p0. dtype is 'int8' at d0 and 'float32' at p0"
    )


async def test_a_broker_without_anybody_is_told_whom_to_start(
    settings: Settings, model: str
) -> None:
    async with EmbeddedServer() as server:
        found = await findings(Patient(settings, server.url, model))

    assert "microserve router" in found["routers"][0].advice
    assert "microserve engine" in found["engines"][0].advice


@pytest.mark.parametrize("collector", ["http://127.0.0.1:1", "http://127.0.0.1:http"])
async def test_everything_that_is_broken_is_a_fault_with_advice(
    collector: str, tmp_path: Path
) -> None:
    broken = from_environment(
        {
            "MICROSERVE_STATE_DIR": str(tmp_path),
            "MICROSERVE_LIBUCP": "/nowhere/libucp.so.0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        }
    )

    found = await findings(Patient(broken, "nats://secret@127.0.0.1:1", "/nowhere"))

    for area in ("broker", "UCX", "model", "traces"):
        [finding] = found[area]
        assert (finding.state, bool(finding.advice)) == ("fault", True)
    assert "secret" not in found["broker"][0].what


async def listed(*given: Finding) -> AsyncIterator[Finding]:
    for finding in given:
        yield finding


async def test_notes_are_no_reason_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    await show(listed(ok("a", "fine"), note("b", "missing", "get it")), as_json=False)

    shown = capsys.readouterr().out
    assert "fine" in shown
    assert "get it" in shown


async def test_a_fault_ends_in_status_1_after_everything_was_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(click.exceptions.Exit) as ended:
        await show(listed(fault("a", "broken", "mend it"), ok("b", "fine")), as_json=True)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["area"], line["state"]) for line in lines] == [("a", "fault"), ("b", "ok")]
    assert ended.value.exit_code == 1
