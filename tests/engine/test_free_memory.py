"""What is free is what the machine has and the groups of the process leave of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.free_memory import System, free_bytes

GIB = 1 << 30
MIB = 1 << 20


def system(folder: Path, groups: str, files: dict[str, int | str]) -> System:
    """A machine with 8 GiB available, and a process in ``groups``."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/meminfo").write_text("MemTotal: 1 kB\nMemAvailable:    8388608 kB\n")
    (folder / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return System(folder / "proc", folder / "cgroup")


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    files: dict[str, int | str] = {"a/memory.max": "max", "a/memory.current": 7}

    assert free_bytes("cpu", system(tmp_path, "0::/a\n", files)) == 8 * GIB


@pytest.mark.parametrize("where", ["a/b/", "a/", ""], ids=["own", "parent", "container"])
def test_a_limit_leaves_what_is_not_used_of_it(tmp_path: Path, where: str) -> None:
    files: dict[str, int | str] = {
        f"{where}memory.max": GIB,
        f"{where}memory.current": 900 * MIB,
        f"{where}memory.stat": f"anon 1\ninactive_file {100 * MIB}",
    }

    assert free_bytes("cpu", system(tmp_path, "0::/a/b\n", files)) == (1024 - 800) * MIB


def test_the_first_version_of_groups_is_understood_too(tmp_path: Path) -> None:
    files: dict[str, int | str] = {
        "memory/a/memory.limit_in_bytes": 2 * GIB,
        "memory/a/memory.usage_in_bytes": GIB,
        "memory/memory.limit_in_bytes": 9223372036854771712,
        "memory/memory.usage_in_bytes": GIB,
    }
    groups = "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n"

    assert free_bytes("cpu", system(tmp_path, groups, files)) == GIB


def test_this_machine_has_some() -> None:
    assert 0 < free_bytes("cpu") < 1 << 60
