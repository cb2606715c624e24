"""How much memory a device has left: the adapter to /proc, cgroups and drivers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

Folders: TypeAlias = list[Path]

UNLIMITED = 1 << 60
"""Version 1 of cgroups says a number like this where there is no limit."""


class System(Struct, frozen=True):
    """Where the kernel tells it."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")


def free_bytes(device: str, system: System | None = None) -> int:
    """Bytes that this process may still take on ``device``.

    Of the host: what is available without swapping, and no more than the limits of the process's
    cgroups leave. Of an accelerator: what its driver says.
    """
    if device.partition(":")[0] != "cpu":
        return _free_on_accelerator(device)
    system = system or System()
    return min([_available(system.proc), *_left_in_groups(system)])


def _free_on_accelerator(device: str) -> int:
    # Torch takes seconds to import, and a host needs none of it here.
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free)


def _available(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise OSError(f"{proc}/meminfo does not say what is available")


def _left_in_groups(system: System) -> Iterator[int]:
    """For every group with a limit that the process is in: what is left of it. What the group's
    page cache could give back counts as left."""
    for line in _lines(system.proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, root = ("memory.max", "memory.current", "inactive_file"), system.cgroup
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            root = system.cgroup / "memory"
        else:
            continue
        for folder in _upwards(root, path):
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None and limit < UNLIMITED:
                yield max(0, limit - used + _field(folder / "memory.stat", names[2]))


def _upwards(root: Path, path: str) -> Folders:
    """The group's folder and those around it. In a container it is seen as the root itself."""
    folder = root / path.strip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None


def _field(path: Path, name: str) -> int:
    for line in _lines(path):
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
