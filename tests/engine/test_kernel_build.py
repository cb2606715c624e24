from __future__ import annotations

import ctypes
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.kernel_build import NoKernels, built
from engine.kernels import Kernels

from .arithmetics import CACHE

SOURCE = "int answer(void) { return 42; }\n"


def a_source(folder: Path, text: str = SOURCE) -> Path:
    path = folder / "source.c"
    path.write_text(text)
    return path


def a_compiler(folder: Path, script: str) -> str:
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_a_source_is_compiled_once(tmp_path: Path) -> None:
    source = a_source(tmp_path)
    log = tmp_path / "log"
    counting = a_compiler(tmp_path, f'echo "$@" >> {log}; exec cc "$@"')

    first = built(tmp_path, source, counting)
    made = first.stat().st_mtime_ns
    second = built(tmp_path, source, counting)

    assert first == second
    assert second.stat().st_mtime_ns == made
    calls = [line for line in log.read_text().splitlines() if line != "--version"]
    assert len(calls) == 1
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_another_source_or_compiler_is_another_library(tmp_path: Path) -> None:
    one = built(tmp_path, a_source(tmp_path))
    other = built(tmp_path, a_source(tmp_path, SOURCE + "\n"))
    third = built(tmp_path, a_source(tmp_path), "cc -O1")

    assert len({one, other, third}) == 3


def test_a_changed_header_is_another_library(tmp_path: Path) -> None:
    source, header = a_source(tmp_path, '#include "number.h"\n' + SOURCE), tmp_path / "number.h"
    header.write_text("enum { NUMBER = 1 };\n")
    one = built(tmp_path, source)

    header.write_text("enum { NUMBER = 2 };\n")

    assert built(tmp_path, source) != one


def test_without_a_compiler_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoKernels, match=r"no C compiler \(cc, gcc, clang\)"):
        built(tmp_path)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('[ "$1" = --version ] || { echo "unknown processor" >&2; exit 1; }', "unknown processor"),
        ("exit 3", "fails: 3"),
    ],
)
def test_a_failing_compiler_is_quoted_and_leaves_nothing(
    tmp_path: Path, script: str, reason: str
) -> None:
    with pytest.raises(NoKernels, match=reason):
        built(tmp_path / "cache", a_source(tmp_path), a_compiler(tmp_path, script))

    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def test_of_an_error_in_a_header_the_error_is_quoted(tmp_path: Path) -> None:
    source = a_source(tmp_path, '#include "number.h"\n' + SOURCE)
    (tmp_path / "number.h").write_text('#include "deep.h"\n')
    (tmp_path / "deep.h").write_text('#error "no such processor"\n')

    with pytest.raises(NoKernels, match="no such processor"):
        built(tmp_path, source)


def no_folder(path: Path) -> None:
    path.write_text("a file where a folder should be")


def no_name(path: Path) -> None:
    path.symlink_to("x" * 256)  # longer than any file system's names


@pytest.mark.parametrize("obstruct", [no_folder, no_name])
def test_where_the_cache_cannot_be_used_they_are_compiled_for_this_run(
    obstruct: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obstruct(tmp_path / "kernels")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    library = built(tmp_path, a_source(tmp_path), scratch=scratch)

    assert ctypes.CDLL(str(library)).answer() == 42
    assert scratch in library.parents
    [line] = caplog.messages
    assert line.startswith("native kernels are compiled at every start: the cache folder ")
    assert f"{tmp_path / 'kernels'} cannot be used" in line


def test_what_is_compiled_for_one_run_goes_with_it(tmp_path: Path) -> None:
    no_folder(tmp_path / "kernels")
    script = """
import sys
from pathlib import Path
from engine.kernel_build import built
cache, source = map(Path, sys.argv[1:])
print(built(cache, source, scratch=cache))
"""

    command = [sys.executable, "-c", script, str(tmp_path), str(a_source(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)

    assert not Path(done.stdout.strip()).parent.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels", "source.c"]


def test_without_any_place_there_are_none(tmp_path: Path) -> None:
    no_folder(tmp_path / "kernels")

    with pytest.raises(NoKernels, match="no place to compile them to"):
        built(tmp_path, a_source(tmp_path), scratch=tmp_path / "missing")


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF but not really")

    with pytest.raises(NoKernels, match="cannot be loaded"):
        Kernels(broken, 1)


def test_threads_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="threads=0"):
        Kernels(built(CACHE), 0)
