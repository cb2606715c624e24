"""`microserve trace`: which flows are listed, and in which form one is shown."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from actors.cli import main
from actors.flow_views import moment
from observability.flow import FlowTrace
from observability.spans import SpanContext
from observability.store import TraceStore

NOW_S = 1_700_000_000.0
QUICK, SLOW, CALLED = "1a" * 16, "2b" * 16, "3c" * 16
CALLER = SpanContext("ab" * 16, "cd" * 8, True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three flows: a slow one, then a quick one, then one in its caller's trace."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.setenv("MICROSERVE_STATE_DIR", str(tmp_path))
    store = TraceStore(tmp_path / "traces.db")
    for flow, begin_s, seconds in ((SLOW, 0, 9.0), (QUICK, 100, 0.5), (CALLED, 200, 1.0)):
        parent = CALLER if flow == CALLED else None
        trace = FlowTrace(flow, parent, NOW_S + begin_s)
        trace.ended("finished", NOW_S + begin_s + seconds)
        store.write(trace.drain())
    store.close()
    return tmp_path


def trace(*arguments: str) -> Result:
    return CliRunner().invoke(main, ("trace", *arguments), catch_exceptions=False)


def listed(*arguments: str) -> list[str]:
    lines = trace("--json", *arguments).output.splitlines()
    return [json.loads(line)["flow"] for line in lines]


def test_the_latest_come_first(home: Path) -> None:
    assert listed() == [CALLED, QUICK, SLOW]
    assert listed("--latest", "1") == [CALLED]


def test_the_slowest_come_first_where_they_are_asked_for(home: Path) -> None:
    assert listed("--slowest", "2") == [SLOW, CALLED]


def test_flows_that_began_before_a_moment_are_left_out(home: Path) -> None:
    since = datetime.fromtimestamp(NOW_S + 50).isoformat()

    assert listed("--since", since) == [CALLED, QUICK]
    assert listed("--slowest", "9", "--since", since) == [CALLED, QUICK]


def test_a_list_for_people_is_a_table(home: Path) -> None:
    assert SLOW in trace().output


def test_nothing_to_list_is_an_error_that_names_the_store(home: Path) -> None:
    result = trace("--since", "1s")

    assert result.exit_code == 1
    assert "traces.db" in "".join(result.output.split())


def test_one_flow_as_json_has_its_times(home: Path) -> None:
    summary = json.loads(trace(SLOW[:6], "--json").output)

    assert (summary["flow"], summary["duration_s"]) == (SLOW, 9.0)


@pytest.mark.parametrize(
    ("given", "trace_id"), [(QUICK, QUICK), (QUICK[:4], QUICK), (CALLED[:4], CALLER.trace_id)]
)
def test_jaegers_address_of_a_flow_is_that_of_its_trace(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: str, trace_id: str
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("MICROSERVE_JAEGER_URL", "http://jaeger:9/")
    monkeypatch.setattr(click, "launch", opened.append)

    result = trace(given, "--open")

    assert result.output == f"http://jaeger:9/trace/{trace_id}\n"
    assert opened == [f"http://jaeger:9/trace/{trace_id}"]


def test_with_a_collector_a_whole_id_is_enough_to_open_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setattr(click, "launch", lambda address: 0)

    assert trace(QUICK, "--open").output.endswith(f"/trace/{QUICK}\n")
    assert "32 digits" in trace(QUICK[:5], "--open").output
    assert "--open" in trace(QUICK).output


def test_open_without_a_flow_says_what_is_missing(home: Path) -> None:
    assert "needs a FLOW" in trace("--open").output


@pytest.mark.parametrize(
    ("text", "seconds_ago"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800)]
)
def test_a_moment_is_so_long_ago(text: str, seconds_ago: float) -> None:
    assert moment(text, NOW_S) == NOW_S - seconds_ago


def test_a_moment_may_be_a_date_and_time_with_a_zone() -> None:
    assert moment("2023-11-14T22:13:20+00:00", 0.0) == NOW_S


def test_what_is_no_moment_is_named_with_what_would_be(home: Path) -> None:
    result = trace("--since", "yesterday")

    assert result.exit_code == 2
    assert "yesterday" in result.output
    assert "10m" in result.output
