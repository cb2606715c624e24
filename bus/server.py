"""A nats-server of our own, for whoever has none running: started, guarded, stopped, cleared away.

```
async with EmbeddedServer() as server:
    async with NatsBus(server.url) as bus: ...
```
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from .binary import NoServer, find_server
from .interface import BusError
from .scratch import Scratch, sweep
from .tether import tethered

__all__ = ["EmbeddedServer", "NoServer", "ServerConfig", "ServerFailed"]

logger = logging.getLogger("microserve.bus")

HOST: Final = "127.0.0.1"
START_PATIENCE_S: Final = 10.0
_POLL_S: Final = 0.003


class ServerFailed(BusError):
    """nats-server did not come up. ``log`` holds the last lines it wrote."""

    def __init__(self, why: str, log: str) -> None:
        super().__init__(f"nats-server {why}; its last words:\n{log or '(none)'}")
        self.why, self.log = why, log


class ServerConfig(Struct, frozen=True, kw_only=True):
    """What one may choose. Everything else is for safety: loopback only, a random token."""

    port: int = 0
    """0 lets the server choose a free one."""
    store_dir: str = ""
    """Where JetStream keeps its data; empty means a scratch folder, removed at the end."""
    max_payload: int = 8 << 20
    """Bytes of one message; the broker's own default of 1 MiB is short for long prompts."""
    scratch_root: str = ""
    """Where the scratch folder is made; empty means the system's folder for temporary files."""
    stop_patience_s: float = 5.0
    """How long the process may take to stop before it is killed."""
    num_processors: int = max(1, (os.cpu_count() or 1) // 4)
    """How many of the machine's it may keep busy. Engines work beside it, and Go, left alone, wakes
    and spins on all of them for each message: on two, a message cost it 1.5 times as much. A
    ``GOMAXPROCS`` in the environment counts for more."""


class EmbeddedServer:
    """One nats-server on 127.0.0.1, as ``with`` or ``async with``.

    Guarantees:
        * Inside the block it answers on `url`; after it, however it was left, the process and its
          scratch folder are gone.
        * On Linux it dies with the thread that started it, killed or not: enter it in the main
          thread, or in one that lives as long. (The scratch folder of a killed owner goes when the
          next server is started.)
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        self._config = config or ServerConfig()
        self._token = secrets.token_urlsafe(24)
        self._port = self._config.port
        self._scratch: Scratch | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Lock()

    @property
    def url(self) -> str:
        """With the token: whoever reads it may connect."""
        return f"nats://{self._token}@{HOST}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        """Raises: RuntimeError: it is not running."""
        if self._process is None:
            raise RuntimeError("this server is not running")
        return self._process.pid

    # --- with -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Raises: NoServer, ServerFailed."""
        try:
            self._spawn()
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process, by force if need be, and clear away. Again does nothing."""
        with self._stopping:
            self._end_process()
            if self._scratch is not None:
                self._scratch.remove()
                self._scratch = None

    # --- async with -----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Raises: NoServer, ServerFailed."""
        try:
            self._spawn()
            await asyncio.to_thread(self._await_ready)
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await asyncio.to_thread(self.stop)
        finally:
            self.stop()

    def kill(self) -> None:
        """What a crash does, for tests: the process is gone at once, the scratch folder stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def restart(self) -> None:
        """Stop the process, if it still runs, and start another on the same port, token and store.

        Raises:
            ServerFailed: the port was taken meanwhile, for instance. Nothing is left running.
        """
        await asyncio.to_thread(self._end_process)
        await self.__aenter__()

    # --- inside ---------------------------------------------------------------------------------

    def _spawn(self) -> None:
        """Fork in the thread that called: `tether` depends on it."""
        assert self._process is None, "this server is running already"
        binary = find_server()
        if self._scratch is None:
            root = self._config.scratch_root or tempfile.gettempdir()
            sweep(root)
            self._scratch = Scratch(root)
        folder = self._scratch.path
        config = folder / "server.conf"
        config.touch(mode=0o600)
        config.write_text(self._render(folder))
        with (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered([str(binary), "-c", str(config)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"GOMAXPROCS": str(self._config.num_processors)} | os.environ,
                start_new_session=True,  # Ctrl-C in a terminal is for us; we stop it in order
            )

    def _render(self, folder: Path) -> str:
        settings = {
            "listen": f"{HOST}:{self._port or -1}",
            "authorization": {"token": self._token},
            "jetstream": {"store_dir": self._config.store_dir or str(folder / "store")},
            "max_payload": self._config.max_payload,
            "ping_interval": "2s",
            "ping_max": 2,
            "ports_file_dir": str(folder),
        }
        return json.dumps(settings, indent=2)

    def _await_ready(self) -> None:
        process, scratch = self._process, self._scratch
        assert process is not None
        assert scratch is not None
        ports = scratch.path / f"nats-server_{process.pid}.ports"
        deadline_s = time.monotonic() + START_PATIENCE_S
        while (port := _read_port(ports)) is None:
            if process.poll() is not None:
                raise ServerFailed(f"ended with code {process.returncode}", self._last_words())
            if time.monotonic() > deadline_s:
                raise ServerFailed(f"was not ready in {START_PATIENCE_S:g} s", self._last_words())
            time.sleep(_POLL_S)
        self._port = port

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._config.stop_patience_s)
        except subprocess.TimeoutExpired:
            logger.warning("nats-server %d did not stop in time; killing it", process.pid)
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        assert self._scratch is not None
        log = (self._scratch.path / "server.log").read_text(errors="replace")
        return "\n".join(log.splitlines()[-10:])


def _read_port(ports: Path) -> int | None:
    """None while the file is not there, or not whole."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        return int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])
    return None
