"""compose.yaml is plain, complete, and speaks the commands that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from actors.cli import main
from observability.otlp_settings import batching

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def services() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert isinstance(loaded, dict)
    return loaded


def test_a_broker_a_trace_backend_a_router_and_two_engines_are_started(
    services: dict[str, Any],
) -> None:
    ours = [s["command"][0] for s in services.values() if "build" in s]

    assert sorted(ours) == ["engine", "engine", "router"]
    assert {"nats", "jaeger"} <= set(services)


def test_every_command_of_ours_parses(services: dict[str, Any]) -> None:
    for service in services.values():
        if "build" in service:
            name, *arguments = service["command"]
            context = main.commands[name].make_context(name, arguments)
            assert context.params["name"]


def test_every_service_of_ours_finds_the_broker_and_the_collector(
    services: dict[str, Any],
) -> None:
    for service in services.values():
        if "build" in service:
            assert "@nats:4222" in service["environment"]["MICROSERVE_NATS_URL"]
            assert service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://jaeger:4318"


def test_a_trace_is_in_jaeger_by_the_time_somebody_looks(services: dict[str, Any]) -> None:
    for service in services.values():
        if "build" in service:
            assert batching(service["environment"]).interval_s <= 1.0


def test_engines_share_memory_and_processes_so_that_kv_takes_the_fast_lane(
    services: dict[str, Any],
) -> None:
    first, second = (s for s in services.values() if s.get("command", [""])[0] == "engine")

    assert first["ipc"] == "shareable"
    assert second["ipc"] == second["pid"] == "service:prefill"


def test_nothing_refers_to_a_service_that_is_not_there(services: dict[str, Any]) -> None:
    for service in services.values():
        needed = [*service.get("depends_on", [])]
        needed += [str(service.get(key, "")).removeprefix("service:") for key in ("pid",)]
        assert {n for n in needed if n} <= set(services)
