"""The commands as processes: what they print, and that nothing is left, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.engine.checkpoints import tiny_checkpoint

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


def environment(home: Path) -> dict[str, str]:
    unset = ("MICROSERVE_NATS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT")
    given = {k: v for k, v in os.environ.items() if k not in unset}
    return {**given, "MICROSERVE_STATE_DIR": str(home), "PYTHONUNBUFFERED": "1"}


def microserve(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actors", *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def up(home: Path, model: str, *engines: str) -> Iterator[subprocess.Popen[str]]:
    """`microserve up`, from the moment it says that it is ready."""
    arguments = ("up", *engines, "--kv-memory", "16MiB", "--model", model)
    with subprocess.Popen(
        [sys.executable, "-m", "actors", *arguments],
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Ctrl-C" in line:
                    break
            yield process
        finally:
            process.kill()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Everything that runs because of it: a broker, a router, engines."""
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4
    return children


def test_the_demo_shows_the_answer_and_the_flow_and_leaves_nothing(
    tmp_path: Path, model: str
) -> None:
    result = microserve(tmp_path, "demo", "--model", model, "--max-tokens", "8")

    assert result.returncode == 0, result.stderr
    for shown in ("Preparing", "PrepRecv", "Sending", "RemoteSend", "StartGenerate", "GB/s"):
        assert shown in result.stdout
    assert "orchestration disaggregated, finished" in result.stdout
    assert not (tmp_path / "running.json").exists()


def test_a_running_fleet_answers_is_traced_and_ends_with_ctrl_c(tmp_path: Path, model: str) -> None:
    with up(tmp_path, model) as process:
        children = family(process)

        answer = microserve(tmp_path, "generate", "hello", "--raw", "--max-tokens", "5")
        listed = microserve(tmp_path, "trace")
        flow = flow_of(answer)
        drawn = microserve(tmp_path, "trace", flow)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)

    assert answer.returncode == 0, answer.stderr
    assert flow in listed.stdout
    assert "kv.transfer" in drawn.stdout
    assert code == 0
    assert psutil.wait_procs(children, timeout=5)[1] == []


def test_a_killed_supervisor_takes_its_fleet_with_it(tmp_path: Path, model: str) -> None:
    with up(tmp_path, model) as process:
        children = family(process)

        process.kill()

    assert psutil.wait_procs(children, timeout=20)[1] == []


def test_an_engine_joins_a_running_system_and_leaves_it(tmp_path: Path, model: str) -> None:
    question = ("generate", "one two three", "--max-tokens", "2", "--raw")
    with (
        up(tmp_path, model, "--engines", "1", "--role", "prefill"),
        late(tmp_path, model) as joined,
    ):
        served = microserve(tmp_path, *question)
        drawn = microserve(tmp_path, "trace", flow_of(served))
        joined.send_signal(signal.SIGINT)
        code = joined.wait(20)
        alone = microserve(tmp_path, *question)
        drawn_alone = microserve(tmp_path, "trace", flow_of(alone))

    assert served.returncode == alone.returncode == code == 0
    assert "late" in drawn.stdout
    assert "late" not in drawn_alone.stdout
    assert alone.stdout == served.stdout


def flow_of(answer: subprocess.CompletedProcess[str]) -> str:
    return answer.stderr.split("microserve trace ")[1][:8]


@contextmanager
def late(home: Path, model: str) -> Iterator[subprocess.Popen[str]]:
    """A decoder that joins the fleet that is up in ``home``, once it is ready."""
    arguments = (
        "engine",
        "--name",
        "late",
        "--role",
        "decode",
        "--kv-memory",
        "16MiB",
        "--model",
        model,
    )
    with subprocess.Popen(
        [sys.executable, "-m", "actors", *arguments],
        env=environment(home),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready late\n"
        yield process
        process.kill()


def test_a_command_that_fails_at_the_start_of_a_fleet_says_why(tmp_path: Path) -> None:
    result = microserve(tmp_path, "up", "--model", "/nowhere.gguf")

    assert result.returncode == 1
    assert "/nowhere.gguf" in result.stderr
    assert "Traceback" not in result.stderr
