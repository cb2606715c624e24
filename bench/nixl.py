"""NIXL's processes, in an environment of their own, for `bench.transport` to compare with."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

PYTHON_VARIABLE: Final = "NIXL_PYTHON"
HOW_TO_GET: Final = (
    "not measured: make an environment with `python -m venv nixl && nixl/bin/pip install --no-deps"
    f" nixl-cu12 && nixl/bin/pip install numpy`, and set {PYTHON_VARIABLE}=nixl/bin/python"
)
_SCRIPT = Path(__file__).parent / "parties" / "nixl_peer.py"


def python_of_nixl() -> str | None:
    """The interpreter that has NIXL, if the environment names one."""
    return os.environ.get(PYTHON_VARIABLE)


class Nixl:
    """Two agents that know each other. ``settings`` are UCX's, without the prefix ``UCX_``."""

    def __init__(self, python: str, pool_bytes: int, settings: Mapping[str, str]) -> None:
        environment = os.environ | {f"UCX_{name}": value for name, value in settings.items()}
        self._process = subprocess.Popen(
            [python, str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.version: str = self._ask(pool_bytes=pool_bytes)["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def write_s(self, num_bytes: int, run_bytes: int) -> float:
        """Of a prepared write until the receiver's word that it is complete; both poll."""
        seconds: float = self._ask(num_bytes=num_bytes, run_bytes=run_bytes)["seconds"]
        return seconds

    def _ask(self, **question: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"NIXL's process ended: see what {_SCRIPT} says under its python")
        answer: dict[str, Any] = json.loads(line)
        return answer
