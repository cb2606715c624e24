"""The commands as a user types them; what needs no fleet."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors.cli import main
from actors.cli_actors import engine
from actors.cli_fleet import pace_arguments, up
from actors.engine_process import courier_config
from actors.options import EngineOptions
from bus.transfers import PoolShape


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where nothing runs and nothing is configured."""
    for name in ("MICROSERVE_NATS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MICROSERVE_STATE_DIR", str(tmp_path))
    return tmp_path


def microserve(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_help_names_every_command() -> None:
    shown = microserve("--help").output

    for command in ("demo", "up", "engine", "router", "generate", "trace", "doctor"):
        assert command in shown


@pytest.mark.parametrize("command", ["generate x", "router", "engine"])
def test_without_a_broker_a_command_says_how_to_get_one(home: Path, command: str) -> None:
    result = microserve(*command.split())

    assert result.exit_code == 2
    assert "microserve up" in result.output


def test_an_unreachable_broker_is_one_line_without_its_secret(home: Path) -> None:
    result = microserve("generate", "x", "--nats", "nats://secret@127.0.0.1:1")

    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
    assert "secret" not in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("option", ["--kv-memory", "--tier"])
def test_a_size_that_is_none_is_told_with_an_example(home: Path, option: str) -> None:
    result = microserve("engine", option, "lots")

    assert result.exit_code == 2
    assert "'lots' is no size: give one like 512MiB" in result.output


def test_a_pace_for_kv_reaches_the_transport_of_an_engine_that_up_starts() -> None:
    given = up.make_context("up", ["--kv-max-bytes-per-s", "1.5MiB"]).params
    arguments = pace_arguments(given["kv_max_bytes_per_s"])

    chosen = engine.make_context("engine", list(arguments)).params["kv_max_bytes_per_s"]
    options = EngineOptions("nats://", "e0", kv_max_bytes_per_s=chosen)

    config = courier_config(options, 1, PoolShape(1, 1, 1, 2, "p"), b"key")
    assert config.max_bytes_per_s == 1.5 * 2**20
    assert pace_arguments(None) == ()


def test_a_pace_of_nothing_is_refused_in_words(home: Path) -> None:
    result = microserve("engine", "--kv-max-bytes-per-s", "0B")

    assert result.exit_code == 2
    assert "give at least 1B" in result.output


def test_what_is_no_pace_is_told_of_sizes_alone(home: Path) -> None:
    result = microserve("engine", "--kv-max-bytes-per-s", "fast")

    assert result.exit_code == 2
    assert "give one like 512MiB or 4GiB" in result.output
    assert "share" not in result.output


def test_the_strategies_are_listed_with_what_they_do() -> None:
    shown = microserve("orchestrations", "list").output

    assert "disaggregated" in shown
    assert "data_parallel" in shown


def test_a_strategy_is_shown_as_its_source() -> None:
    assert "def disaggregated(state" in microserve("orchestrations", "show", "disaggregated").output


def test_a_strategy_is_drawn() -> None:
    drawn = microserve("orchestrations", "draw", "data_parallel").output

    assert microserve("orchestrations", "draw", "--svg", "data_parallel").output.startswith("<svg")
    assert drawn.startswith("stateDiagram-v2")
    assert "Generating" in drawn


def test_shipped_strategies_are_checked_by_their_names() -> None:
    result = microserve("orchestrations", "check", "disaggregated", "data_parallel")

    assert result.exit_code == 0
    assert "disaggregated: passed" in result.output
    assert "data_parallel: passed" in result.output


def test_a_faulty_strategy_of_ones_own_is_found_with_the_path_that_shows_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "forgetful.py"
    path.write_text(
        "from bus.messages import Cancelled, Event\n"
        "from orchestrations.disaggregated import disaggregated\n"
        "from orchestrations.machine import Done, Preparing, State, Step\n"
        "def forgetful(state: State, event: Event) -> Step:\n"
        "    match state, event:\n"
        "        case Preparing(), Cancelled():\n"
        "            return Done('cancelled'), []\n"
        "    return disaggregated(state, event)\n"
    )

    result = microserve("orchestrations", "check", str(path))

    assert result.exit_code == 1
    assert "forgetful: not fit to be loaded" in result.output
    assert "Cancelled" in result.output


@pytest.mark.parametrize("command", ["show", "draw", "check"])
def test_an_unknown_strategy_is_named_with_those_there_are(command: str) -> None:
    result = microserve("orchestrations", command, "magic")

    assert result.exit_code == 1
    assert "magic" in result.output
    assert "disaggregated" in result.output


def test_a_trace_before_any_request_says_what_to_do(home: Path) -> None:
    result = microserve("trace", "abc")

    assert result.exit_code == 1
    assert "microserve up" in result.output


def test_a_model_that_is_not_there_is_one_line(home: Path) -> None:
    result = microserve("router", "--nats", "nats://127.0.0.1:1", "--model", "/nowhere.gguf")

    assert result.exit_code == 1
    assert "/nowhere.gguf" in result.output


@pytest.mark.parametrize("command", ["demo", "up"])
def test_an_orchestration_that_is_not_there_is_told_before_anything_is_started(
    command: str, home: Path
) -> None:
    result = microserve(command, "--orchestration", "nonsense")

    assert result.exit_code == 1
    assert "no orchestration 'nonsense'; there are adaptive" in result.output
    assert "resilient, policy." in result.output
    assert "starting" not in result.output


def test_an_adapter_is_a_name_and_a_folder(home: Path) -> None:
    result = microserve("engine", "--adapter", "legal")

    assert result.exit_code == 2
    assert "'legal' is not NAME=FOLDER" in result.output


def test_as_many_roles_as_engines_are_wanted(home: Path) -> None:
    result = microserve("up", "--engines", "2", "--role", "prefill")

    assert result.exit_code == 2
    assert "--role was given 1 times for 2 engines" in result.output


@pytest.mark.parametrize("command", ["engine", "up"])
def test_the_same_tokens_in_every_batch_are_kept_unless_speed_is_wanted(command: str) -> None:
    command_of = main.commands[command]

    assert command_of.make_context(command, []).params["invariant"] is True
    assert command_of.make_context(command, ["--no-invariant"]).params["invariant"] is False
